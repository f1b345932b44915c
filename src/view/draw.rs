//! Blocks on paper.

use std::fmt;

use super::bar::{Scale, tick};
use super::block::{Block, Row};
use super::style::{Line, Pen, Tone};
use super::text;

/// The columns of a drawing: `  label  bar  duration  notes`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paper {
    pub(super) pen: Pen,
    width: usize,
    bar: usize,
    coarse: bool,
}

const INDENT: usize = 2;
const LABEL: usize = 8;
const DURATION: usize = 8;
/// What the columns take apart from bar and notes, with the space between them.
const FIXED: usize = INDENT + LABEL + 1 + DURATION + 2;

impl Paper {
    pub(super) fn new(pen: Pen, width: usize, coarse: bool) -> Self {
        /// Narrower would be useless; lines are then longer than asked for.
        const LEAST: usize = 60;
        let width = width.max(LEAST);
        let bar = ((width - FIXED) * 2 / 5).clamp(12, 72);
        Paper { pen, width, bar, coarse }
    }

    pub(super) fn block(self, f: &mut fmt::Formatter<'_>, block: &Block) -> fmt::Result {
        self.title(f, &block.title, &block.total)?;
        for line in block.facts.wrap(self.width - INDENT) {
            self.indent(f, INDENT)?;
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

    /// Rows below their axis.
    fn rows(self, f: &mut fmt::Formatter<'_>, rows: &[Row], begin: i64, end: i64) -> fmt::Result {
        let ruler = Ruler::new(self, Scale { begin, end, columns: self.bar });
        if !rows.is_empty() {
            self.axis(f, &ruler)?;
        }
        rows.iter().try_for_each(|row| self.row(f, row, &ruler))
    }

    /// Left and right on one line. A line that is too long for it is left whole, so that a URL can be copied.
    pub(super) fn title(self, f: &mut fmt::Formatter<'_>, title: &Line, total: &Line) -> fmt::Result {
        self.pen.line(f, title)?;
        if !total.is_empty() {
            let used = title.width() + total.width();
            self.indent(f, self.width.saturating_sub(used).max(2))?;
        }
        self.end(f, total)
    }

    /// Something to be said at full width.
    pub(super) fn remark(self, f: &mut fmt::Formatter<'_>, remark: &Line) -> fmt::Result {
        let lines = remark.wrap(self.width - INDENT - 2);
        lines.iter().enumerate().try_for_each(|(at, line)| {
            self.indent(f, if at == 0 { INDENT } else { INDENT + 2 })?;
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
        self.indent(f, INDENT + LABEL)?;
        self.pen.write(f, Tone::Dim, cells.trim_end())?;
        writeln!(f)
    }

    fn row(self, f: &mut fmt::Formatter<'_>, row: &Row, ruler: &Ruler) -> fmt::Result {
        let mut label = Line::default();
        let tone = if row.is_part { Tone::Dim } else { row.tone };
        label.push(tone, if row.is_part { "  " } else { "" });
        label.push(tone, &row.label);
        self.indent(f, INDENT)?;
        self.pen.line(f, &label)?;
        self.indent(f, LABEL.saturating_sub(label.width()))?;
        self.bar(f, row, ruler)?;
        let duration = row.duration.map(|nanos| text::duration(nanos, self.coarse)).unwrap_or_default();
        let notes = row.notes.wrap(self.width - FIXED - self.bar);
        if notes.is_empty() && duration.is_empty() {
            return writeln!(f);
        }
        self.indent(f, (1 + DURATION).saturating_sub(duration.chars().count()))?;
        self.pen.write(f, Tone::Plain, &duration)?;
        let mut lines = notes.iter();
        if let Some(first) = lines.next() {
            self.indent(f, 2)?;
            self.pen.line(f, first)?;
        }
        writeln!(f)?;
        lines.try_for_each(|line| {
            self.indent(f, INDENT + LABEL)?;
            self.cells(f, Tone::Dim, vec![' '; self.bar], ruler)?;
            self.indent(f, 1 + DURATION + 2)?;
            self.end(f, line)
        })
    }

    fn bar(self, f: &mut fmt::Formatter<'_>, row: &Row, ruler: &Ruler) -> fmt::Result {
        self.cells(f, row.tone, ruler.scale.bar(&row.parts, self.pen.ascii), ruler)
    }

    /// The cells of a bar; where they are empty the marks of the axis show.
    fn cells(
        self,
        f: &mut fmt::Formatter<'_>,
        tone: Tone,
        mut cells: Vec<char>,
        ruler: &Ruler,
    ) -> fmt::Result {
        const MARK: char = '┊';
        for (column, _) in &ruler.marks {
            if let Some(cell) = cells.get_mut(*column).filter(|cell| **cell == ' ') {
                *cell = MARK;
            }
        }
        for run in cells.chunk_by(|a, b| (*a == MARK) == (*b == MARK)) {
            let tone = if run.contains(&MARK) { Tone::Dim } else { tone };
            self.pen.write(f, tone, &run.iter().collect::<String>())?;
        }
        Ok(())
    }

    fn indent(self, f: &mut fmt::Formatter<'_>, columns: usize) -> fmt::Result {
        write!(f, "{:columns$}", "")
    }

    fn end(self, f: &mut fmt::Formatter<'_>, line: &Line) -> fmt::Result {
        self.pen.line(f, line)?;
        writeln!(f)
    }
}

/// A scale with the marks of its axis: their columns and labels.
struct Ruler {
    scale: Scale,
    marks: Vec<(usize, String)>,
}

impl Ruler {
    fn new(paper: Paper, scale: Scale) -> Self {
        let span = scale.span();
        let step = tick(span, scale.columns / 10);
        let mut marks = vec![(0, String::from("0"))];
        // Where milliseconds are all that is known, their fractions would be a pretence.
        let mut next = Some(step).filter(|step| span > 0 && !(paper.coarse && *step < 1_000_000));
        while let Some(at) = next.filter(|at| *at < span) {
            let column = (i128::from(at) * scale.columns as i128 / i128::from(span)) as usize;
            let label = text::round(at);
            if column + label.chars().count() <= scale.columns {
                marks.push((column, label));
            }
            next = at.checked_add(step);
        }
        Ruler { scale, marks }
    }
}
