//! The README and the guides name every dependency of their programs, and their links point to files that exist.
//!
//! The documentation tests compile the programs with the dependencies of this crate, so they pass even if the
//! `Cargo.toml` of a guide lacks a dependency. What they do not compile is an extract of a file that is compiled.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[test]
fn manifests_name_the_dependencies_of_programs() {
    let mut programs = 0;
    for (path, text) in pages() {
        let mut manifest = "";
        for (language, content) in blocks(&text) {
            match language {
                "toml" if content.contains("[dependencies]") => manifest = content,
                _ if language.starts_with("rust") && language != EXTRACT => {
                    programs += 1;
                    for name in crates_of(content) {
                        assert!(
                            has_dependency(manifest, &name),
                            "{}: a program uses {name}, which the Cargo.toml above it does not name",
                            path.display()
                        );
                    }
                }
                _ => {}
            }
        }
    }
    assert!(programs > 15, "only {programs} programs were found");
}

/// The language of a block whose first line is a comment with the path of a file, and whose other lines are in that
/// file.
const EXTRACT: &str = "rust,ignore";

#[test]
fn extracts_are_in_their_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut extracts = 0;
    for (page, text) in pages() {
        for (_, content) in blocks(&text).filter(|(language, _)| *language == EXTRACT) {
            let (path, extract) = content.split_once('\n').expect("a path and code");
            let path = path.strip_prefix("// ").expect("a comment with the path of a file");
            let file = fs::read_to_string(root.join(path)).expect("the file exists");
            let is_there = without_indentation(&file).contains(&without_indentation(extract));
            assert!(is_there, "{}: this is not in {path}:\n{extract}", page.display());
            extracts += 1;
        }
    }
    assert!(extracts > 5, "only {extracts} extracts were found");
}

/// Returns the text with its lines trimmed, each between line breaks.
fn without_indentation(text: &str) -> String {
    text.trim().lines().map(|line| format!("\n{}\n", line.trim())).collect()
}

#[test]
fn links_point_to_existing_files() {
    let mut links = 0;
    for (path, text) in pages() {
        let folder = path.parent().unwrap();
        for target in link_targets(&text) {
            links += 1;
            assert!(
                folder.join(target).exists(),
                "{} links to {target}, which does not exist",
                path.display()
            );
        }
    }
    assert!(links > 15, "only {links} links were found");
}

/// Returns the Markdown files in the root and in `docs`, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [root.to_owned(), root.join("docs")].map(|folder| fs::read_dir(folder).unwrap());
    let paths = files.into_iter().flatten().map(|entry| entry.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// Returns the fenced code blocks, each with its language.
fn blocks(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let fenced = text.split("\n```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap_or((block, "")))
}

/// Returns the crates that a program uses: the roots of its paths, except for names that it imports.
fn crates_of(program: &str) -> BTreeSet<String> {
    let (mut crates, mut imported) = (BTreeSet::new(), BTreeSet::from(["std".to_owned(), "core".to_owned()]));
    let mut code = String::new();
    for (index, part) in program.split("use ").enumerate() {
        let (import, rest) = match part.split_once(';') {
            Some((import, rest)) if index > 0 => (import, rest),
            _ => ("", part),
        };
        let mut words = words(import).map(|(_, word)| word.to_owned());
        crates.extend(words.next());
        imported.extend(words);
        code.push_str(rest);
    }
    for (begin, word) in words(&code) {
        let (before, after) = (&code[..begin], &code[begin + word.len()..]);
        let is_root = after.starts_with("::") && !after.starts_with("::<") && !before.ends_with("::");
        if is_root && word.starts_with(|c: char| c.is_ascii_lowercase()) {
            crates.insert(word.to_owned());
        }
    }
    crates.retain(|name| !imported.contains(name));
    crates
}

/// Returns the identifiers in a text, each with its index.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.map(|word| (word.as_ptr().addr() - text.as_ptr().addr(), word))
}

fn has_dependency(manifest: &str, name: &str) -> bool {
    let mut dependencies = manifest.lines().filter_map(|line| line.split_once(" = "));
    dependencies.any(|(dependency, _)| dependency.replace('-', "_") == name)
}

/// Returns the targets of links to other files, without their fragments.
fn link_targets(text: &str) -> impl Iterator<Item = &str> {
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let defined = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).map(|(_, to)| to);
    let files = inline.chain(defined).filter(|target| !target.contains("://"));
    files.filter_map(|target| target.split('#').next()).filter(|target| !target.is_empty())
}
