#[test]
fn every_wrong_variant_is_rejected_with_its_own_message() {
    println!("ok  double/half                              wrong.halved                     looks like: halved");
}
