//! The elements of a drawing: blocks of rows with a common scale.

use super::style::{Line, Style};
use crate::graph::TimeAxis;
use crate::readable;
use crate::record::{EndReason, Failure};

/// A request, or something that belongs to none, with what happened during it.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The left part of the first line.
    pub(super) title: Line,
    /// The right part of the first line: the total duration.
    pub(super) total: Line,
    /// The lines below the title: identifier, version, connection.
    pub(super) facts: Line,
    pub(super) begin: i64,
    pub(super) end: i64,
    pub(super) rows: Vec<Row>,
    /// Rows that belong to the block but happened at another time, each with a scale of its own.
    pub(super) sections: Vec<Section>,
    /// Lines over the full width below the rows, mostly errors.
    pub(super) remarks: Vec<Line>,
}

/// A group of rows that belongs to a block but happened at another time.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub(super) title: Line,
    pub(super) rows: Vec<Row>,
}

/// A row: a step that took time.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) label: String,
    /// Whether it is a part of the row above.
    pub(super) is_part: bool,
    pub(super) style: Style,
    /// The begin and end of each part: several if it was interrupted, none if unknown.
    pub(super) parts: Vec<(i64, i64)>,
    pub(super) duration: Option<i64>,
    pub(super) notes: Line,
    /// The text of an error that is appended to the notes, unless the block has it already.
    pub(super) error: String,
}

impl Row {
    pub(super) fn new(label: &str, style: Style, begin: Option<i64>, end: Option<i64>) -> Self {
        let part = begin.map(|begin| (begin, end.unwrap_or(begin).max(begin)));
        Row {
            label: label.into(),
            is_part: false,
            style,
            parts: part.into_iter().collect(),
            duration: part.filter(|_| end.is_some()).map(|(begin, end)| end.saturating_sub(begin)),
            notes: Line::default(),
            error: String::new(),
        }
    }

    pub(super) fn part(label: &str, style: Style, begin: Option<i64>, end: Option<i64>) -> Self {
        Row { is_part: true, ..Row::new(label, style, begin, end) }
    }

    /// Appends to the notes how the step ended, unless it ended well.
    pub(super) fn append_ending(&mut self, ending: &Ending<'_>) {
        self.style = ending.style(self.style);
        ending.describe(&mut self.notes);
        if ending.is_failure() {
            self.error = ending.text.into();
        }
    }

    /// Moves the begin if it is known and within the row.
    pub(super) fn move_begin(&mut self, begin: Option<i64>) {
        if let (Some(begin), [(from, to)]) = (begin, self.parts.as_mut_slice())
            && (*from..=*to).contains(&begin)
        {
            *from = begin;
            self.duration = self.duration.map(|_| to.saturating_sub(begin));
        }
    }

    /// Returns when the first part began.
    pub(super) fn begin(&self) -> Option<i64> {
        self.parts.iter().map(|(begin, _)| *begin).min()
    }

    /// Returns when the last part ended.
    pub(super) fn end(&self) -> Option<i64> {
        self.parts.iter().map(|(_, end)| *end).max()
    }
}

impl Block {
    /// Appends the error of each row to its notes, unless `said`, the error of the whole block, contains it.
    pub(super) fn append_errors(mut self, said: &str) -> Self {
        /// Longer texts are not searched, since there may be many rows.
        const MAX_SEARCHED_BYTES: usize = 4096;
        let said = Some(said).filter(|said| said.len() <= MAX_SEARCHED_BYTES).unwrap_or_default();
        let rows = self.sections.iter_mut().flat_map(|section| &mut section.rows).chain(&mut self.rows);
        for row in rows.filter(|row| !row.error.is_empty() && !said.contains(&row.error)) {
            row.notes.push(Style::Error, format!(": {}", row.error));
        }
        self
    }
}

/// How a record ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending<'a> {
    pub(super) reason: Option<&'a EndReason>,
    pub(super) failure: Option<&'a Failure>,
    pub(super) text: &'a str,
}

impl Ending<'_> {
    /// Returns `true` if it failed. A cancelled record did not.
    pub(super) fn is_failure(&self) -> bool {
        if self.reason == Some(&EndReason::Cancelled) && self.failure == Some(&Failure::Interrupted) {
            return false;
        }
        self.failure.is_some() || !self.text.is_empty() || self.reason.is_some_and(EndReason::is_failure)
    }

    /// Returns the code of the failure, or a substitute if there is none.
    pub(super) fn code(&self) -> String {
        match (self.failure, self.reason) {
            (Some(Failure::Unknown(unknown)), _) if unknown.text() == self.text => "unknown_failure".into(),
            (Some(failure), _) => readable::shortened(failure.as_str()).into_owned(),
            (None, Some(EndReason::Timeout)) => "timeout".into(),
            (None, _) => "failed".into(),
        }
    }

    /// Returns the error as a line.
    pub(super) fn remark(&self) -> Line {
        let mut line = Line::default();
        self.describe(&mut line);
        if self.is_failure() && !self.text.is_empty() {
            line.push(Style::Error, format!(": {}", self.text));
        }
        line
    }

    /// Appends a short description of the end, unless the record ended well.
    pub(super) fn describe(&self, line: &mut Line) {
        match self.reason {
            _ if self.is_failure() => line.item(Style::Bad, format!("✗ {}", self.code())),
            Some(EndReason::LostRace) => line.item(Style::Dim, "lost the race"),
            Some(EndReason::Cancelled) => line.item(Style::Warn, "cancelled"),
            Some(EndReason::SinkClosed) => line.item(Style::Warn, "recording ended"),
            Some(EndReason::IdleLimit) => line.item(Style::Dim, "closed because idle"),
            Some(EndReason::PeerClosed) => line.item(Style::Dim, "closed by the peer"),
            Some(EndReason::Other(name)) => line.item(Style::Warn, name),
            _ => {}
        }
    }

    /// Returns the style of a bar, which depends on the end.
    pub(super) fn style(&self, usual: Style) -> Style {
        match self.reason {
            _ if self.is_failure() => Style::Bad,
            Some(EndReason::LostRace | EndReason::Cancelled) => Style::Dim,
            _ => usual,
        }
    }
}

/// Formats a duration for a title.
pub(super) fn total(begin: Option<i64>, end: Option<i64>, times: TimeAxis) -> String {
    match (begin, end) {
        (Some(begin), Some(end)) => readable::duration(end.saturating_sub(begin).max(0), times.coarse),
        _ => String::new(),
    }
}
