//! Figures and their targets, said when they are known and once more as a table.

/// A target: no more than this.
pub(crate) struct AtMost(pub(crate) f64);

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<String>,
}

impl Report {
    pub(crate) fn say(&mut self, text: &str) {
        println!("{text}");
    }

    /// One figure of Combo's.
    pub(crate) fn figure(&mut self, what: &str, value: f64, unit: &str, target: AtMost) {
        let met = if value <= target.0 { "met" } else { "MISSED" };
        self.row(format!(
            "| {what} | {value:.2} {unit} | | | ≤ {} {unit} | {met} |",
            target.0
        ));
    }

    /// A figure that has no target of its own.
    pub(crate) fn note(&mut self, what: &str, value: f64, unit: &str) {
        self.row(format!("| {what} | {value:.2} {unit} | | | | |"));
    }

    /// A rate, as a multiple of upstream's.
    pub(crate) fn rate(&mut self, what: &str, combo: f64, upstream: Option<f64>, at_least: f64) {
        let Some(upstream) = upstream else {
            return self.note(what, combo, "/s");
        };
        let ratio = combo / upstream;
        let met = if ratio >= at_least { "met" } else { "MISSED" };
        self.row(format!(
            "| {what} | {combo:.0} /s | {upstream:.0} /s | {ratio:.2} × | ≥ {at_least} × | {met} |"
        ));
    }

    /// A time in milliseconds, as a part of upstream's.
    pub(crate) fn time(&mut self, what: &str, combo: f64, upstream: Option<f64>, target: AtMost) {
        let Some(upstream) = upstream else {
            return self.note(what, combo, "ms");
        };
        let ratio = combo / upstream;
        let met = if ratio <= target.0 { "met" } else { "MISSED" };
        self.row(format!(
            "| {what} | {combo:.1} ms | {upstream:.1} ms | {ratio:.2} × | ≤ {} × | {met} |",
            target.0
        ));
    }

    /// A time in milliseconds beside another one's, without a target.
    pub(crate) fn fine_time(&mut self, what: &str, combo: f64, other: Option<f64>) {
        let Some(other) = other else {
            return self.note(what, combo, "ms");
        };
        let ratio = combo / other;
        self.row(format!(
            "| {what} | {combo:.2} ms | {other:.2} ms | {ratio:.2} × | | |"
        ));
    }

    /// A figure and the same of something else that was measured in turn with it.
    pub(crate) fn beside(&mut self, what: &str, combo: f64, other: f64, unit: &str) {
        let ratio = combo / other;
        self.row(format!(
            "| {what} | {combo:.1} {unit} | {other:.1} {unit} | {ratio:.2} × | | |"
        ));
    }

    fn row(&mut self, row: String) {
        println!("{row}");
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        println!("\n| figure | Combo | beside it | ratio | target | |\n|---|---|---|---|---|---|");
        for row in &self.rows {
            println!("{row}");
        }
    }
}

/// The middle of some values; 0 of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of files and memory are far below 2^52"
)]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }
}
