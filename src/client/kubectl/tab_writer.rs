//! Aligns text whose cells end with tabs, as Go's `text/tabwriter` does: a column is a run of lines that have its cell.

/// Widths of columns, in characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spacing {
    pub(crate) width_min: usize,
    pub(crate) padding: usize,
}

/// How `describe` sets its lines.
pub(crate) const DESCRIPTION: Spacing = Spacing {
    width_min: 0,
    padding: 2,
};
/// How tables of `get` are set.
pub(crate) const TABLE: Spacing = Spacing {
    width_min: 6,
    padding: 3,
};

/// The text with spaces for tabs. A cell at the end of a line belongs to no column.
pub(crate) fn align(text: &str, spacing: Spacing) -> String {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<Vec<usize>> = vec![Vec::new(); lines.len()];
    set_widths(&lines, &mut widths, 0..lines.len(), 0, spacing);
    let mut aligned = String::with_capacity(text.len() * 2);
    for (line, widths) in lines.iter().zip(&widths) {
        let last = line.len() - 1;
        for (index, cell) in line.iter().enumerate() {
            aligned.push_str(cell);
            if index < last {
                let used = cell.chars().count();
                aligned.extend(std::iter::repeat_n(' ', widths[index].saturating_sub(used)));
            }
        }
        aligned.push('\n');
    }
    aligned
}

/// Finds the blocks of column `column` within `range` and gives each its width.
fn set_widths(
    lines: &[Vec<&str>],
    widths: &mut [Vec<usize>],
    range: std::ops::Range<usize>,
    column: usize,
    spacing: Spacing,
) {
    let has_cell = |line: usize| lines[line].len() > column + 1;
    let mut line = range.start;
    while line < range.end {
        if !has_cell(line) {
            line += 1;
            continue;
        }
        let start = line;
        while line < range.end && has_cell(line) {
            line += 1;
        }
        let cells = lines[start..line]
            .iter()
            .map(|line| line[column].chars().count());
        // A column without any text takes no room beyond the smallest width.
        let width = cells.max().unwrap_or(0);
        let width = (width + spacing.padding).max(spacing.width_min);
        for set in &mut widths[start..line] {
            set.push(width);
        }
        set_widths(lines, widths, start..line, column + 1, spacing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_ends_where_a_line_has_no_such_cell() {
        let text = "Name:\tx\nLong name:\ty\nEvents:\n  a\tb\tc\n  dddd\te\tf\n";
        assert_eq!(
            align(text, DESCRIPTION),
            "Name:       x\nLong name:  y\nEvents:\n  a     b  c\n  dddd  e  f\n"
        );
    }

    #[test]
    fn a_table_has_three_spaces_between_columns_and_six_at_least() {
        assert_eq!(
            align("A\tB\tC\nx\ty\tz\n", TABLE),
            "A     B     C\nx     y     z\n"
        );
    }
}
