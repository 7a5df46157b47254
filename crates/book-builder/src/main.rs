//! Builds the course book.
//!
//! mdBook is used as a library, so that `Cargo.lock` pins it and nothing has to be installed.
//! Two things are added to it: formulas are turned into MathML while the book is built
//! ([`math`]), and a local preview ([`serve`]) that needs nothing but the standard library.
//!
//! ```text
//! cargo run -p book-builder -- build            write book/book
//! cargo run -p book-builder -- serve [port]     build, show on 127.0.0.1, rebuild on save
//! cargo run -p book-builder -- test             compile the Rust examples that are not `ignore`d
//! ```

mod math;
mod page_checks;
mod serve;
mod signatures;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use mdbook_driver::MDBook;

const USAGE: &str = "usage: book-builder build | serve [port] | test";
const DEFAULT_PORT: u16 = 3000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("book: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let root = book_root()?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["build"] => {
            let index = build(&root)?;
            println!("book written: open {}", index.display());
            Ok(())
        }
        ["serve"] => serve::serve(&root, DEFAULT_PORT),
        ["serve", port] => {
            let port = port.parse().with_context(|| format!("`{port}` is not a port number (1 to 65535)"))?;
            serve::serve(&root, port)
        }
        ["test"] => load(&root)?.test(Vec::new()).context("an example in the book does not compile or run"),
        _ => bail!("{USAGE}"),
    }
}

/// The `book` folder: below the current folder, where the runner starts this program, or two levels above this package.
/// In this order, because two clones may share a target folder, and with it this program.
fn book_root() -> Result<PathBuf> {
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../book");
    [PathBuf::from("book"), compiled]
        .into_iter()
        .find(|folder| folder.join("book.toml").is_file())
        .and_then(|folder| folder.canonicalize().ok())
        .context("book/book.toml not found: run this from the root of the repository")
}

fn load(root: &Path) -> Result<MDBook> {
    let mut book = MDBook::load(root).context("the book cannot be loaded")?;
    book.with_preprocessor(page_checks::PageChecks);
    book.with_preprocessor(signatures::Signatures);
    book.with_preprocessor(math::MathMl);
    Ok(book)
}

/// Builds the book and returns the path of its first page.
fn build(root: &Path) -> Result<PathBuf> {
    let book = load(root)?;
    book.build()?;
    Ok(book.build_dir_for("html").join("index.html"))
}
