//! Guides: a chapter for each kind of client, one for servers, and what to decide before production.
//!
//! The chapters are files of the repository, most of them in its directory `docs/`. They exist in the documentation
//! alone: rustdoc shows them here, and the documentation tests compile their programs.

/// Declares a chapter.
///
/// A file ends with definitions of its links (`[hyper]: hyper.md`), which lead to other files. Markdown takes the first
/// definition of a link, so the ones that are put before the file make the same links lead to modules.
macro_rules! guide {
    ($name:ident, $path:literal) => {
        #[doc = "[clients]: crate::guides::clients"]
        #[doc = "[hyper]: crate::guides::hyper"]
        #[doc = "[protocols]: crate::guides::protocols"]
        #[doc = "[reqwest]: crate::guides::reqwest"]
        #[doc = "[security]: crate::guides::security"]
        #[doc = "[stack]: crate::guides::stack"]
        #[doc = "[stores]: crate::guides::stores"]
        #[doc = "[tonic]: crate::guides::tonic"]
        #[doc = ""]
        #[doc = include_str!($path)]
        pub mod $name {}
    };
}

guide!(client, "../docs/client.md");
guide!(hyper, "../docs/hyper.md");
guide!(stack, "../docs/stack.md");
guide!(tonic, "../docs/tonic.md");
guide!(reqwest, "../docs/reqwest.md");
guide!(protocols, "../docs/protocols.md");
guide!(clients, "../docs/clients.md");
guide!(server, "../docs/server.md");
guide!(kernel, "../docs/kernel.md");
guide!(logging, "../docs/logging.md");
guide!(otlp, "../docs/otlp.md");
guide!(records, "../docs/records.md");
guide!(causes, "../docs/causes.md");
guide!(stores, "../docs/stores.md");
guide!(debug_page, "../docs/debug-page.md");
guide!(production, "../docs/production.md");
guide!(security, "../SECURITY.md");

/// The README, whose programs are compiled as well.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
