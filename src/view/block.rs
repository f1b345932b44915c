//! What is drawn: blocks of rows on one scale.

use super::style::{Line, Style};
use super::text;
use super::time_axis::TimeAxis;
use crate::record::{EndReason, Failure};

/// A request, or something else that stands for itself, and what happened within it.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The first line, at the left and at the right.
    pub(super) title: Line,
    pub(super) total: Line,
    /// More about it as a whole.
    pub(super) facts: Line,
    pub(super) begin: i64,
    pub(super) end: i64,
    pub(super) rows: Vec<Row>,
    /// What happened outside its time, each on a scale of its own.
    pub(super) sections: Vec<Section>,
    /// What is to be said at full width: errors above all.
    pub(super) remarks: Vec<Line>,
}

/// Something that belongs to a block but happened outside its time.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub(super) title: Line,
    pub(super) rows: Vec<Row>,
}

/// Something that took time.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) label: String,
    /// A part of the row above.
    pub(super) is_part: bool,
    pub(super) style: Style,
    /// From when to when; several where it was interrupted, none where that is not known.
    pub(super) parts: Vec<(i64, i64)>,
    pub(super) duration: Option<i64>,
    pub(super) notes: Line,
    /// Text of an error that ends the notes, unless it is said below already.
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

    /// Ends the notes with how it ended, unless it ended well.
    pub(super) fn ended(&mut self, ending: &Ending<'_>) {
        self.style = ending.style(self.style);
        ending.describe(&mut self.notes);
        if ending.is_failure() {
            self.error = ending.text.into();
        }
    }

    /// Moves the begin, if that is known and leaves something of it.
    pub(super) fn begin_at(&mut self, begin: Option<i64>) {
        if let (Some(begin), [(from, to)]) = (begin, self.parts.as_mut_slice())
            && (*from..=*to).contains(&begin)
        {
            *from = begin;
            self.duration = self.duration.map(|_| to.saturating_sub(begin));
        }
    }

    /// When it began.
    pub(super) fn begin(&self) -> Option<i64> {
        self.parts.iter().map(|(begin, _)| *begin).min()
    }

    /// When it ended.
    pub(super) fn end(&self) -> Option<i64> {
        self.parts.iter().map(|(_, end)| *end).max()
    }
}

impl Block {
    /// Says in each row what went wrong there, but for what the block says as a whole.
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

/// How something came to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending<'a> {
    pub(super) reason: Option<&'a EndReason>,
    pub(super) failure: Option<&'a Failure>,
    pub(super) text: &'a str,
}

impl Ending<'_> {
    /// Whether it failed. What was given up did not.
    pub(super) fn is_failure(&self) -> bool {
        if self.reason == Some(&EndReason::Cancelled) && self.failure == Some(&Failure::Interrupted) {
            return false;
        }
        self.failure.is_some()
            || !self.text.is_empty()
            || matches!(self.reason, Some(EndReason::Failed | EndReason::Timeout))
    }

    /// The code of the failure, or the best that there is instead of one.
    pub(super) fn code(&self) -> String {
        match (self.failure, self.reason) {
            (Some(Failure::Unknown(unknown)), _) if unknown.text() == self.text => "unknown_failure".into(),
            (Some(failure), _) => text::shortened(failure.as_str()).into_owned(),
            (None, Some(EndReason::Timeout)) => "timeout".into(),
            (None, _) => "failed".into(),
        }
    }

    /// The error as a line of its own.
    pub(super) fn remark(&self) -> Line {
        let mut line = Line::default();
        self.describe(&mut line);
        if self.is_failure() && !self.text.is_empty() {
            line.push(Style::Error, format!(": {}", self.text));
        }
        line
    }

    /// Says how something ended that did not end well, in a word.
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

    /// The style of a bar that is usually of another.
    pub(super) fn style(&self, usual: Style) -> Style {
        match self.reason {
            _ if self.is_failure() => Style::Bad,
            Some(EndReason::LostRace | EndReason::Cancelled) => Style::Dim,
            _ => usual,
        }
    }
}

/// How long something took, for a title.
pub(super) fn total(begin: Option<i64>, end: Option<i64>, times: TimeAxis) -> String {
    match (begin, end) {
        (Some(begin), Some(end)) => text::duration(end.saturating_sub(begin).max(0), times.coarse),
        _ => String::new(),
    }
}
