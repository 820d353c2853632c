// SPDX-License-Identifier: Apache-2.0
//! Text in lines of 80 columns.

/// Columns of a screen.
pub const WIDTH: usize = 80;

/// Lines of at most `width` columns, broken only between words: options and names keep their hyphens.
pub fn wrapping(width: usize) -> textwrap::Options<'static> {
    textwrap::Options::new(width).word_splitter(textwrap::WordSplitter::NoHyphenation)
}

/// Text in lines of at most [`WIDTH`] columns, all but the first indented by `indent`.
pub fn wrap(text: &str, indent: usize) -> String {
    let indent = " ".repeat(indent);
    textwrap::fill(text, wrapping(WIDTH).subsequent_indent(&indent))
}

/// An error as one sentence, followed by its causes, without repetitions.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.ends_with(&cause) {
            continue; // // Many errors include their cause themselves, so that they are complete without a chain.
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}
