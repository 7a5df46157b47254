//! Weights in large pages, so that reading them all for one token doesn't also mean walking the page tables.

use std::ops::Range;

use crate::Constant;

/// The size of a large page on x86-64, and on aarch64 with ordinary pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// Gaps that may lie inside a large page: a neighbour's header, a small array in between.
const LARGEST_GAP: usize = 64 << 10;

/// Asks the system to keep these values in large pages, and returns how many bytes it agreed to.
///
/// A processor remembers where some thousand pages lie. 100 MB are 24,000 pages of 4 KiB, each of which has to be
/// looked up anew for every token, in a virtual machine through two levels of tables; in pages of 2 MiB they are 50.
/// Neighbouring arrays share a large page, so all weights of a model should come in one call.
///
/// Only Linux is asked. Where it declines (large pages turned off, no memory in one piece), nothing changes.
pub fn use_huge_pages<'a>(constants: impl IntoIterator<Item = &'a Constant>) -> usize {
    let mut ranges: Vec<Range<usize>> = constants.into_iter().map(Constant::addresses).collect();
    ranges.sort_by_key(|range| range.start);
    runs(ranges).into_iter().filter_map(whole_pages).filter(collapse).map(|pages| pages.len()).sum()
}

/// Joins ranges, sorted by their start, that lie close together.
fn runs(ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match runs.last_mut() {
            Some(run) if range.start <= run.end.saturating_add(LARGEST_GAP) => run.end = run.end.max(range.end),
            _ => runs.push(range),
        }
    }
    runs
}

/// The large pages that lie inside, if there is one.
fn whole_pages(range: Range<usize>) -> Option<Range<usize>> {
    let pages = range.start.next_multiple_of(HUGE_PAGE)..range.end / HUGE_PAGE * HUGE_PAGE;
    (pages.start < pages.end).then_some(pages)
}

#[cfg(target_os = "linux")]
fn collapse(pages: &Range<usize>) -> bool {
    // SAFETY: both are advice about pages of this process: contents and addresses stay as they are. Where a part of the
    // range is not mapped, the call fails.
    unsafe {
        let start = std::ptr::with_exposed_provenance_mut(pages.start);
        // The first also for later, should the system move pages about; the second now.
        libc::madvise(start, pages.len(), libc::MADV_HUGEPAGE) == 0
            && libc::madvise(start, pages.len(), libc::MADV_COLLAPSE) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn collapse(_: &Range<usize>) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use mlx_rs::Array;

    use super::*;

    #[test]
    fn near_ranges_are_one_run() {
        let far = 10 * HUGE_PAGE;
        assert_eq!(runs(vec![0..10, 10..20, 100..200, far..far + 1]), [0..200, far..far + 1]);
        assert_eq!(runs(vec![0..100, 20..30, 90..120, far..far + 1]), [0..120, far..far + 1], "ranges that overlap");
        assert!(runs(Vec::new()).is_empty());
    }

    #[test]
    fn only_pages_inside_a_run_are_asked_for() {
        assert_eq!(whole_pages(1..3 * HUGE_PAGE + 5), Some(HUGE_PAGE..3 * HUGE_PAGE));
        assert_eq!(whole_pages(0..HUGE_PAGE), Some(0..HUGE_PAGE));
        assert_eq!(whole_pages(1..HUGE_PAGE), None);
        assert_eq!(whole_pages(5..6), None);
    }

    #[test]
    fn values_stay_what_they_were() {
        let values: Vec<u32> = (0..3 << 20).collect();
        let constants = [Constant::new(&Array::from_slice(&values, &[3 << 20])).unwrap()];
        // The answer depends on the system; the values must not.
        use_huge_pages(&constants);
        assert_eq!(constants[0].tensor().as_slice::<u32>().unwrap(), values);
    }
}
