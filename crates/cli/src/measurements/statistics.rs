//! Medians. A measurement on a machine that does other things as well has outliers in one direction; a mean believes them.

/// The middle value, or the mean of the two middle ones; `None` for no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    match sorted.len().is_multiple_of(2) {
        true => Some((sorted[sorted.len() / 2 - 1] + upper) / 2.0),
        false => Some(*upper),
    }
}

/// How far the values lie apart: `(max - min) / median`.
pub fn relative_spread(values: &[f64]) -> Option<f64> {
    let max = values.iter().copied().max_by(f64::total_cmp)?;
    let min = values.iter().copied().min_by(f64::total_cmp)?;
    Some((max - min) / median(values)?)
}

/// The median at each index of series that may differ in length.
pub fn median_series(series: &[&[f64]]) -> Vec<f64> {
    let len = series.iter().map(|values| values.len()).max().unwrap_or(0);
    let at = |idx: usize| median(&series.iter().filter_map(|values| values.get(idx).copied()).collect::<Vec<_>>());
    (0..len).filter_map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[10.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        // One outlier moves it by nothing.
        assert_eq!(median(&[1.0, 2.0, 3.0, 4.0, 1e9]), Some(3.0));
    }

    #[test]
    fn the_spread_is_relative_to_the_median() {
        assert_eq!(relative_spread(&[]), None);
        assert_eq!(relative_spread(&[5.0]), Some(0.0));
        assert_eq!(relative_spread(&[8.0, 10.0, 13.0]), Some(0.5));
    }

    #[test]
    fn series_are_reduced_index_by_index() {
        let (a, b, c) = ([1.0, 10.0], [2.0, 30.0], [9.0, 20.0, 7.0]);
        assert_eq!(median_series(&[&a, &b, &c]), [2.0, 20.0, 7.0]);
        assert!(median_series(&[]).is_empty());
    }
}
