//! Puts the page, its styles, its script and the compiled core into one HTML file that needs no
//! server: `bundle FOLDER CORE.wasm PAGE.html`.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use wasm_bindgen_cli_support::Bindgen;

/// The most bytes that the page may have.
const PAGE_BYTES_MAX: usize = 1_500_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [folder, core, page] = arguments.as_slice() else {
        return Err("bundle FOLDER CORE.wasm PAGE.html".into());
    };
    let mut bindgen = Bindgen::new();
    let mut output = bindgen
        .input_path(core)
        .no_modules(true)?
        .typescript(false)
        .remove_name_section(true)
        .generate_output()?;
    let wasm = output.wasm_mut().emit_wasm();
    let read = |name: &str| fs::read_to_string(Path::new(folder).join(name));
    let mut html = read("index.html")?;
    // In this order: the glue may contain anything, and is looked through by no later replacement.
    for (mark, text) in [
        ("/* page.css */", read("page.css")?),
        ("/* page.js */", scripts(&read("page.js")?)),
        ("/* recorded.js */", scripts(&read("recorded.js")?)),
        ("/* selftest.js */", scripts(&read("selftest.js")?)),
        ("<!-- core -->", BASE64_STANDARD.encode(&wasm)),
        ("/* glue */", scripts(output.js())),
    ] {
        let (before, after) = html.split_once(mark).ok_or(format!("index.html has no {mark}"))?;
        html = [before, &text, after].concat();
    }
    if html.len() > PAGE_BYTES_MAX {
        return Err(format!("the page has {} bytes, more than {PAGE_BYTES_MAX}", html.len()).into());
    }
    fs::write(page, &html)?;
    println!("{page}: {} bytes, {} of them the core", html.len(), wasm.len());
    Ok(())
}

/// A script inside of HTML ends where these letters are, whatever they stand for.
fn scripts(text: &str) -> String {
    text.replace("</script", "<\\/script")
}
