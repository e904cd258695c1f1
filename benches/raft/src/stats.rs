//! Percentiles and medians.

/// The value below which `share` (0 to 1) of `sorted` lies, by the nearest rank; 0 when there is none.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    if sorted.is_empty() {
        return 0.0;
    }
    let rank = (share * count(sorted.len())).ceil();
    // A share of at most 1 gives a rank of at most the length.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
    let rank = rank as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The middle of `values`; the mean of the two in the middle when their number is even.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

/// `values` from the smallest to the largest.
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// A count as a number to divide with; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
pub const fn count(count: usize) -> f64 {
    count as f64
}

/// The same for bytes and records.
#[expect(clippy::cast_precision_loss, reason = "no amount here comes near 2^53")]
pub const fn amount(amount: u64) -> f64 {
    amount as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = sorted((1..=100).rev().map(f64::from));
        assert!((percentile(&values, 0.5) - 50.0).abs() < f64::EPSILON);
        assert!((percentile(&values, 0.99) - 99.0).abs() < f64::EPSILON);
        assert!((percentile(&values, 1.0) - 100.0).abs() < f64::EPSILON);
        assert!((percentile(&values[..1], 0.01) - 1.0).abs() < f64::EPSILON);
        assert!(percentile(&[], 0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert!((median([4.0, 1.0, 3.0]) - 3.0).abs() < f64::EPSILON);
        assert!((median([4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < f64::EPSILON);
    }
}
