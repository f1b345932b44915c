//! The head and the navigation that all pages share.

use super::{csp, links::href, text::shown};
use crate::debug_page::{
    query::Query,
    switches::{Switch, SwitchState},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The parts of a page around its content.
pub(in super::super) struct Frame<'a> {
    pub(in super::super) title: &'a str,
    /// The path from the page to the place where the pages are mounted.
    pub(in super::super) base: &'a str,
    pub(in super::super) query: &'a Query,
    pub(in super::super) switches: [(Switch, SwitchState); 2],
    pub(in super::super) read_only: bool,
}

/// Whether the content of a page is replaced while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    Live,
    Never,
}

/// The pages that are linked from all pages: their name in links, and for people.
const LINKS: [(&str, &str); 5] = [
    ("", "requests"),
    ("summary", "summary"),
    ("trace.json", "trace.json"),
    ("explain.json", "explain.json"),
    ("metrics", "metrics"),
];

impl Frame<'_> {
    /// Returns the whole page. `controls` stay as they are when `content` is replaced.
    pub(super) fn page(&self, name: &str, update: Update, controls: &Markup, content: &Markup) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    @if let Some(seconds) = self.query.refresh.filter(|_| update == Update::Live) {
                        meta http-equiv="refresh" content=(seconds.max(1));
                    }
                    title { (shown(name)) " · " (shown(self.title)) }
                    style { (PreEscaped(csp::STYLE)) }
                }
                body {
                    a.skip href="#content" { "To the content" }
                    header {
                        p.title { a href=(href(self.base, "", "")) { (shown(self.title)) } }
                        nav aria-label="Pages" {
                            ul { @for (view, text) in LINKS { li { a href=(href(self.base, view, "")) { (text) } } } }
                        }
                        @for (switch, state) in self.switches { (self.switch(switch, state)) }
                    }
                    main #content {
                        h1 { (shown(name)) }
                        (controls)
                        @if update == Update::Live { (self.live()) }
                        div #live-content { (content) }
                    }
                    script { (PreEscaped(csp::SCRIPT)) }
                }
            }
        };
        page.into_string()
    }

    /// Returns the controls of the automatic update.
    fn live(&self) -> Markup {
        const SECONDS: &str = "5";
        let (text, seconds) = match self.query.refresh {
            None => ("Load again every 5 seconds", Some(SECONDS)),
            Some(_) => ("Do not load again by itself", None),
        };
        html! {
            p.live {
                button #live-switch type="button" aria-pressed="true" hidden { "Live" }
                " "
                span #live-state { }
                noscript { a href=(href("", "", &self.query.with(&[("refresh", seconds)]))) { (text) } }
            }
        }
    }

    /// Returns whether something is on, and a button that switches it.
    fn switch(&self, switch: Switch, state: SwitchState) -> Markup {
        let name = switch.name();
        let (is_on, text) = match state {
            SwitchState::On => (true, "on"),
            SwitchState::Off => (false, "off"),
            SwitchState::Fixed if switch == Switch::Capture => return html! {},
            SwitchState::Fixed => (false, "off for good"),
        };
        let can_switch = state != SwitchState::Fixed && !self.read_only;
        let target = href(self.base, name, if is_on { "on=false" } else { "on=true" });
        html! {
            p.switch {
                (name) " is " strong.bad[!is_on] { (text) }
                @if can_switch {
                    " "
                    button type="button" data-post=(target) hidden {
                        @if is_on { "Stop " } @else { "Resume " } (name)
                    }
                }
            }
        }
    }
}

/// Returns the page for a path that has none: a list of the pages.
pub(in super::super) fn not_found(frame: &Frame<'_>) -> String {
    let content = html! {
        p { "There are these pages:" }
        ul {
            @for (view, text) in LINKS { li { a href=(href(frame.base, view, "")) { (text) } } }
            li { "request/" em { "ID" } }
        }
    };
    frame.page("No such page", Update::Never, &html! {}, &content)
}

/// Returns a page that says what is wrong.
pub(in super::super) fn problem(frame: &Frame<'_>, name: &str, text: &str) -> String {
    frame.page(name, Update::Never, &html! {}, &html! { p { (text) } })
}
