//! The pages as HTML.
//!
//! `maud` escapes whatever is put into a template. Text from a trace goes through [`text::shown`] in addition, so that it
//! has no characters that control or reorder what is around it.

mod csp;
mod layout;
mod links;
mod list;
mod outcome;
mod phase_bar;
mod request;
mod summary;
mod text;

pub(super) use self::{
    csp::content_security_policy,
    layout::{Frame, not_found, problem},
    list::requests,
    request::request,
    summary::summary,
};

#[cfg(test)]
mod tests;
