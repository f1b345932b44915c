//! Prints blocks.

use std::fmt;

use super::bar::{Scale, tick_step};
use super::block::{Block, Row};
use super::style::{Line, Palette, Style};
use crate::readable;

/// Prints blocks in columns: `  label  bar  duration  notes`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renderer {
    pub(super) palette: Palette,
    width: usize,
    bar: usize,
    coarse: bool,
}

const INDENT_COLUMNS: usize = 2;
const LABEL_COLUMNS: usize = 8;
const DURATION_COLUMNS: usize = 8;
/// The width of the columns except bar and notes, with the space between them.
const FIXED_COLUMNS: usize = INDENT_COLUMNS + LABEL_COLUMNS + 1 + DURATION_COLUMNS + 2;

impl Renderer {
    pub(super) fn new(palette: Palette, width: usize, coarse: bool) -> Self {
        /// A narrower drawing would be unreadable. Lines are then longer than requested.
        const MIN_COLUMNS: usize = 60;
        let width = width.max(MIN_COLUMNS);
        let bar = ((width - FIXED_COLUMNS) * 2 / 5).clamp(12, 72);
        Renderer { palette, width, bar, coarse }
    }

    pub(super) fn block(self, f: &mut fmt::Formatter<'_>, block: &Block) -> fmt::Result {
        self.title(f, &block.title, &block.total)?;
        for line in block.facts.wrap(self.width - INDENT_COLUMNS) {
            self.indent(f, INDENT_COLUMNS)?;
            self.end(f, &line)?;
        }
        self.rows(f, &block.rows, block.begin, block.end)?;
        for section in &block.sections {
            self.remark(f, &section.title)?;
            let begin = section.rows.iter().filter_map(Row::begin).min().unwrap_or_default();
            let end = section.rows.iter().filter_map(Row::end).max().unwrap_or(begin);
            self.rows(f, &section.rows, begin, end)?;
        }
        block.remarks.iter().try_for_each(|remark| self.remark(f, remark))
    }

    /// Prints rows below their axis.
    fn rows(self, f: &mut fmt::Formatter<'_>, rows: &[Row], begin: i64, end: i64) -> fmt::Result {
        let ruler = Ruler::new(self, Scale { begin, end, columns: self.bar });
        if !rows.is_empty() {
            self.axis(f, &ruler)?;
        }
        rows.iter().try_for_each(|row| self.row(f, row, &ruler))
    }

    /// Prints a left and a right part on one line. A line that is too long is not wrapped, so that its URL can be
    /// copied.
    pub(super) fn title(self, f: &mut fmt::Formatter<'_>, title: &Line, total: &Line) -> fmt::Result {
        self.palette.line(f, title)?;
        if !total.is_empty() {
            let used = title.width() + total.width();
            self.indent(f, self.width.saturating_sub(used).max(2))?;
        }
        self.end(f, total)
    }

    /// Prints a line over the full width, wrapped.
    pub(super) fn remark(self, f: &mut fmt::Formatter<'_>, remark: &Line) -> fmt::Result {
        let lines = remark.wrap(self.width - INDENT_COLUMNS - 2);
        lines.iter().enumerate().try_for_each(|(at, line)| {
            self.indent(f, if at == 0 { INDENT_COLUMNS } else { INDENT_COLUMNS + 2 })?;
            self.end(f, line)
        })
    }

    fn axis(self, f: &mut fmt::Formatter<'_>, ruler: &Ruler) -> fmt::Result {
        let mut cells = vec![' '; self.bar];
        for (column, label) in &ruler.marks {
            for (cell, c) in cells.iter_mut().skip(*column).zip(label.chars()) {
                *cell = c;
            }
        }
        let cells: String = cells.into_iter().collect();
        self.indent(f, INDENT_COLUMNS + LABEL_COLUMNS)?;
        self.palette.write(f, Style::Dim, cells.trim_end())?;
        writeln!(f)
    }

    fn row(self, f: &mut fmt::Formatter<'_>, row: &Row, ruler: &Ruler) -> fmt::Result {
        let mut label = Line::default();
        let style = if row.is_part { Style::Dim } else { row.style };
        label.push(style, if row.is_part { "  " } else { "" });
        label.push(style, &row.label);
        self.indent(f, INDENT_COLUMNS)?;
        self.palette.line(f, &label)?;
        self.indent(f, LABEL_COLUMNS.saturating_sub(label.width()))?;
        self.bar(f, row, ruler)?;
        let duration = row.duration.map(|nanos| readable::duration(nanos, self.coarse)).unwrap_or_default();
        let notes = row.notes.wrap(self.width - FIXED_COLUMNS - self.bar);
        if notes.is_empty() && duration.is_empty() {
            return writeln!(f);
        }
        self.indent(f, (1 + DURATION_COLUMNS).saturating_sub(duration.chars().count()))?;
        self.palette.write(f, Style::Plain, &duration)?;
        let mut lines = notes.iter();
        if let Some(first) = lines.next() {
            self.indent(f, 2)?;
            self.palette.line(f, first)?;
        }
        writeln!(f)?;
        lines.try_for_each(|line| {
            self.indent(f, INDENT_COLUMNS + LABEL_COLUMNS)?;
            self.cells(f, Style::Dim, vec![' '; self.bar], ruler)?;
            self.indent(f, 1 + DURATION_COLUMNS + 2)?;
            self.end(f, line)
        })
    }

    fn bar(self, f: &mut fmt::Formatter<'_>, row: &Row, ruler: &Ruler) -> fmt::Result {
        self.cells(f, row.style, ruler.scale.bar(&row.parts, self.palette.ascii), ruler)
    }

    /// Prints the cells of a bar. The marks of the axis are visible in empty cells.
    fn cells(
        self,
        f: &mut fmt::Formatter<'_>,
        style: Style,
        mut cells: Vec<char>,
        ruler: &Ruler,
    ) -> fmt::Result {
        const TICK_MARK: char = '┊';
        for (column, _) in &ruler.marks {
            if let Some(cell) = cells.get_mut(*column).filter(|cell| **cell == ' ') {
                *cell = TICK_MARK;
            }
        }
        for run in cells.chunk_by(|a, b| (*a == TICK_MARK) == (*b == TICK_MARK)) {
            let style = if run.contains(&TICK_MARK) { Style::Dim } else { style };
            self.palette.write(f, style, &run.iter().collect::<String>())?;
        }
        Ok(())
    }

    fn indent(self, f: &mut fmt::Formatter<'_>, columns: usize) -> fmt::Result {
        write!(f, "{:columns$}", "")
    }

    fn end(self, f: &mut fmt::Formatter<'_>, line: &Line) -> fmt::Result {
        self.palette.line(f, line)?;
        writeln!(f)
    }
}

/// A scale with the columns and labels of its axis marks.
struct Ruler {
    scale: Scale,
    marks: Vec<(usize, String)>,
}

impl Ruler {
    fn new(renderer: Renderer, scale: Scale) -> Self {
        let span = scale.span();
        let step = tick_step(span, scale.columns / 10);
        let mut marks = vec![(0, String::from("0"))];
        // A trace with whole milliseconds gets no marks for fractions.
        let mut next = Some(step).filter(|step| span > 0 && !(renderer.coarse && *step < 1_000_000));
        while let Some(at) = next.filter(|at| *at < span) {
            let column = (i128::from(at) * scale.columns as i128 / i128::from(span)) as usize;
            let label = readable::round_duration(at);
            if column + label.chars().count() <= scale.columns {
                marks.push((column, label));
            }
            next = at.checked_add(step);
        }
        Ruler { scale, marks }
    }
}
