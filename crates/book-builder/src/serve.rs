//! A local preview: static files over HTTP on 127.0.0.1, and a rebuild when a source changes.
//!
//! The standard library is enough for one reader. mdBook's own server would more than double the
//! build time of this package.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// A browser that opens a connection and says nothing must not block the others for long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Builds the book, serves it until interrupted, and rebuilds it after every change.
pub fn serve(root: &Path, port: u16) -> Result<()> {
    let index = crate::build(root)?;
    let pages = index.parent().context("the built book has no folder")?.to_path_buf();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("port {port} cannot be used; try `serve {}`", port.wrapping_add(1)))?;
    println!("book: http://{} (Ctrl-C ends it; reload the page after a change)", listener.local_addr()?);

    let watched = root.to_path_buf();
    thread::spawn(move || rebuild_on_change(&watched));
    for stream in listener.incoming().flatten() {
        // A reader who closed the connection is no reason to stop.
        let _ = answer(stream, &pages);
    }
    Ok(())
}

fn rebuild_on_change(root: &Path) {
    let mut built_at = latest_change(root);
    loop {
        thread::sleep(POLL_INTERVAL);
        let changed_at = latest_change(root);
        if changed_at > built_at {
            built_at = changed_at;
            match crate::build(root) {
                Ok(_) => println!("book: rebuilt"),
                Err(error) => eprintln!("book: {error:#}"),
            }
        }
    }
}

/// Newest modification time of book.toml and everything under `src` and `theme`.
fn latest_change(root: &Path) -> Option<SystemTime> {
    let mut newest = modified(&root.join("book.toml"));
    let mut folders = vec![root.join("src"), root.join("theme")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            newest = newest.max(modified(&path));
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    newest
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

fn answer(stream: TcpStream, pages: &Path) -> Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let mut request_line = String::new();
    BufReader::new(&stream).read_line(&mut request_line)?;
    let target = request_line.split_whitespace().nth(1).unwrap_or("/");

    let file = local_file(pages, target).and_then(|path| Some((std::fs::read(&path).ok()?, path)));
    let (status, content_type, body) = match file {
        Some((body, path)) => ("200 OK", content_type(&path), body),
        None => ("404 Not Found", "text/plain", b"no such page".to_vec()),
    };
    let mut stream = &stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    Ok(())
}

/// The file behind a request target; `None` for anything that leaves the folder of pages.
fn local_file(pages: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?.trim_start_matches('/');
    let relative = Path::new(path);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let file = pages.join(relative);
    Some(if file.is_dir() { file.join("index.html") } else { file })
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_cannot_leave_the_folder_of_pages() {
        let pages = Path::new("pages");
        assert_eq!(local_file(pages, "/../secret"), None);
        assert_eq!(local_file(pages, "/week1/../../secret"), None);
        assert_eq!(local_file(pages, "/week1/day1.html?x#task-1"), Some(PathBuf::from("pages/week1/day1.html")));
    }

    #[test]
    fn a_folder_answers_with_its_index() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(local_file(folder.path(), "/"), Some(folder.path().join("index.html")));
    }
}
