//! Day 1.2.

#[test]
fn task_1_shout() {
    assert_eq!(tiny_llm::words::shout("hey"), "HEY!");
}
