//! Draws bars to scale, in eighths of a character.

/// The range of time that the columns of a bar cover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) begin: i64,
    pub(super) end: i64,
    pub(super) columns: usize,
}

const LEFT_BLOCKS: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

impl Scale {
    pub(super) fn span(&self) -> i64 {
        self.end.saturating_sub(self.begin).max(0)
    }

    /// Returns the position of a time, in eighths of a column.
    fn eighths(&self, at: i64) -> usize {
        let (whole, span) = (self.columns * 8, self.span());
        if span == 0 {
            return 0;
        }
        let offset = at.clamp(self.begin, self.end).saturating_sub(self.begin);
        (i128::from(offset) * whole as i128 / i128::from(span)) as usize
    }

    /// Returns the cells of one row. Each part is visible, however short it is.
    pub(super) fn bar(&self, parts: &[(i64, i64)], ascii: bool) -> Vec<char> {
        let mut cells = vec![' '; self.columns];
        for (begin, end) in parts {
            let last = (self.columns * 8).saturating_sub(1);
            let from = self.eighths(*begin).min(last);
            let to = self.eighths(*end).max(from + 1);
            for (column, cell) in cells.iter_mut().enumerate().take(to.div_ceil(8)).skip(from / 8) {
                let (from, to) = (from.saturating_sub(column * 8), (to - column * 8).min(8));
                let drawn = if ascii { in_ascii(from, to) } else { block(from, to) };
                if *cell == ' ' || drawn == '█' {
                    *cell = drawn;
                }
            }
        }
        cells
    }
}

/// Returns the character that is closest to a cell filled from one eighth to another. Unicode has all widths only of
/// left-aligned blocks.
fn block(from: usize, to: usize) -> char {
    match (from, to) {
        (0, to) => LEFT_BLOCKS[to.min(8)],
        (1, 8) => '█',
        (2..=5, 8) => '▐',
        (6.., 8) => '▕',
        (1 | 2, to) => LEFT_BLOCKS[to],
        (from, to) if to - from >= 3 => '▐',
        (3..=4, _) => '│',
        _ => '▕',
    }
}

fn in_ascii(from: usize, to: usize) -> char {
    if to - from >= 4 { '#' } else { '|' }
}

/// Returns a round distance between the marks of an axis of `span` nanoseconds, so that there are at most `most` marks.
pub(super) fn tick_step(span: i64, most: usize) -> i64 {
    let (mut step, mut factors) = (1i64, [2, 5, 10].into_iter().cycle());
    let mut decade = 1i64;
    while span / step > most.max(1) as i64 {
        let factor = factors.next().unwrap_or(10);
        let Some(next) = decade.checked_mul(factor) else { return span };
        step = next;
        if factor == 10 {
            decade = next;
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(scale: Scale, parts: &[(i64, i64)]) -> String {
        scale.bar(parts, false).into_iter().collect()
    }

    #[test]
    fn bars_are_drawn_to_scale() {
        let scale = Scale { begin: 100, end: 180, columns: 10 };
        assert_eq!(bar(scale, &[(100, 180)]), "██████████");
        assert_eq!(bar(scale, &[(100, 108)]), "█         ");
        assert_eq!(bar(scale, &[(100, 110)]), "█▎        ");
        assert_eq!(bar(scale, &[(104, 110)]), "▐▎        ");
        assert_eq!(bar(scale, &[(116, 124), (140, 148)]), "  █  █    ");
        assert_eq!(scale.bar(&[(104, 124), (150, 150)], true).into_iter().collect::<String>(), "###   |   ");
    }

    #[test]
    fn every_part_is_visible_within_the_bar() {
        let scale = Scale { begin: 0, end: 80, columns: 10 };
        for at in [i64::MIN, -1, 0, 1, 79, 80, 81, i64::MAX] {
            assert_eq!(bar(scale, &[(at, at)]).trim().chars().count(), 1, "{at}");
            assert_eq!(bar(scale, &[(at, i64::MIN)]).trim().chars().count(), 1, "{at}");
        }
        assert_eq!(bar(scale, &[(i64::MIN, i64::MAX)]), "██████████");
        for scale in [Scale { begin: 5, end: 5, columns: 4 }, Scale { begin: 9, end: 1, columns: 4 }] {
            assert_eq!(bar(scale, &[(5, 5)]), "▏   ");
        }
        assert_eq!(bar(Scale { begin: i64::MIN, end: i64::MAX, columns: 0 }, &[(0, 1)]), "");
    }

    #[test]
    fn ticks_are_round() {
        for (span, step) in [(0, 1), (5, 1), (6, 2), (72, 20), (430, 100), (1_241, 500), (6_001, 2000)] {
            assert_eq!(tick_step(span, 5), step, "{span}");
        }
        assert!(tick_step(i64::MAX, 5) > i64::MAX / 10);
        assert!(tick_step(i64::MAX, 0) > 0);
    }
}
