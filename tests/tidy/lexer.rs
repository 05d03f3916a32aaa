//! Just enough of Rust's grammar to find which paths a source file names: comments and literals are blanked, `use`
//! trees unfolded, `super` and `self` resolved. Pure text in, plain data out; used by the checks of `tests/tidy.rs`.

/// A path as written somewhere in the code, for example `crate::model::event`, with the line where it starts.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedPath {
    pub segments: Vec<String>,
    pub line: usize,
}

/// The source with comments and the contents of string and character literals replaced by spaces; lines stay lines.
pub fn blank_comments_and_literals(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => end_of_line(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_block_comment(&chars, at),
            '"' => end_of_string(&chars, at + 1),
            'r' if !continues_a_word(&chars, at) || is_string_prefix(&chars, at) => {
                end_of_raw_string(&chars, at).unwrap_or(at)
            }
            '\'' => end_of_char(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn end_of_line(chars: &[char], at: usize) -> usize {
    at + chars[at..].iter().take_while(|c| **c != '\n').count()
}

fn end_of_block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) if depth == 1 => return at + 2,
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `at` is on the `r` of `r"…"` or `r#"…"#`; `None` when it is just a name, or a raw identifier.
fn end_of_raw_string(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |quote: usize| {
        let tail = &chars[quote + 1..];
        tail.len() >= hashes && tail[..hashes].iter().all(|c| *c == '#')
    };
    let close = (open + 1..chars.len()).find(|i| chars[*i] == '"' && closes(*i))?;
    Some(close + 1 + hashes)
}

/// `None` for a lifetime.
fn end_of_char(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        let close = (at + 3..chars.len()).find(|i| chars[*i] == '\'')?;
        return Some(close + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

fn continues_a_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

/// The `r` of `br"…"` or `cr"…"`.
fn is_string_prefix(chars: &[char], at: usize) -> bool {
    at > 0 && matches!(chars[at - 1], 'b' | 'c') && !continues_a_word(chars, at - 1)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Path,
    Mark(char),
}

fn tokens(blanked: &str) -> Vec<(Token, usize)> {
    let chars: Vec<char> = blanked.chars().collect();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let c = chars[at];
        if c == '\n' {
            line += 1;
        }
        if c.is_alphanumeric() || c == '_' {
            let end = at + chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            found.push((Token::Word(chars[at..end].iter().collect()), line));
            at = end;
        } else if c == ':' && chars.get(at + 1) == Some(&':') {
            found.push((Token::Path, line));
            at += 2;
        } else {
            if !c.is_whitespace() {
                found.push((Token::Mark(c), line));
            }
            at += 1;
        }
    }
    found
}

/// Every path that the code names, with `self` and `super` resolved against `module` (the module path of the file,
/// starting with `crate`) and the inline modules around it. Names without `::` count only inside `use`.
pub fn named_paths(blanked: &str, module: &[String]) -> Vec<NamedPath> {
    let tokens = tokens(blanked);
    let mut found = Vec::new();
    // The inline modules we are in; `None` for any other pair of braces.
    let mut braces: Vec<Option<String>> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let line = tokens[at].1;
        let here: Vec<String> = module.iter().cloned().chain(braces.iter().flatten().cloned()).collect();
        match &tokens[at].0 {
            Token::Word(word) if word == "use" => {
                at = unfold_use(&tokens, at + 1, &mut Vec::new(), &here, &mut found);
            }
            Token::Word(word) if word == "mod" && matches!(tokens.get(at + 2), Some((Token::Mark('{'), _))) => {
                if let Token::Word(name) = &tokens[at + 1].0 {
                    braces.push(Some(name.clone()));
                }
                at += 3;
            }
            Token::Word(first) => {
                let mut segments = vec![first.clone()];
                at += 1;
                while let (Some((Token::Path, _)), Some((Token::Word(next), _))) = (tokens.get(at), tokens.get(at + 1))
                {
                    segments.push(next.clone());
                    at += 2;
                }
                if segments.len() > 1 {
                    found.push(NamedPath { segments: resolve(segments, &here), line });
                }
            }
            Token::Mark('{') => {
                braces.push(None);
                at += 1;
            }
            Token::Mark('}') => {
                braces.pop();
                at += 1;
            }
            _ => at += 1,
        }
    }
    found
}

/// Adds every leaf of the use tree that starts at `at`; answers where it ends.
fn unfold_use(
    tokens: &[(Token, usize)],
    mut at: usize,
    prefix: &mut Vec<String>,
    here: &[String],
    found: &mut Vec<NamedPath>,
) -> usize {
    let depth = prefix.len();
    let mut pending = false;
    let mut line = tokens.get(at).map_or(0, |t| t.1);
    while let Some((token, token_line)) = tokens.get(at) {
        let leaf_ends = matches!(token, Token::Mark(',') | Token::Mark(';') | Token::Mark('}'));
        if leaf_ends {
            if pending {
                found.push(NamedPath { segments: resolve(prefix.clone(), here), line });
            }
            prefix.truncate(depth);
            match token {
                // The comma after a top-level tree cannot occur; in a group the caller goes on with the next leaf.
                Token::Mark(',') => (at, pending) = (at + 1, false),
                _ => return at + 1,
            }
            continue;
        }
        match token {
            Token::Word(word) if word == "as" => at += 2,
            Token::Word(word) => {
                prefix.push(word.clone());
                (line, pending) = (*token_line, true);
                at += 1;
            }
            Token::Mark('*') => {
                (line, pending) = (*token_line, true);
                at += 1;
            }
            Token::Mark('{') => {
                at = unfold_use(tokens, at + 1, prefix, here, found);
                pending = false;
            }
            _ => at += 1,
        }
    }
    at
}

fn resolve(segments: Vec<String>, here: &[String]) -> Vec<String> {
    let mut base = here.to_vec();
    let mut relative = false;
    let mut rest = segments.iter().peekable();
    while let Some(word) = rest.peek() {
        match word.as_str() {
            "self" => {}
            "super" => {
                base.pop();
            }
            _ => break,
        }
        relative = true;
        rest.next();
    }
    if relative {
        base.extend(rest.cloned());
        base
    } else {
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let module: Vec<String> = ["crate", "inbound", "decode"].map(String::from).to_vec();
        named_paths(&blank_comments_and_literals(source), &module).into_iter().map(|p| p.segments.join("::")).collect()
    }

    #[test]
    fn use_trees_are_unfolded() {
        let source = "use crate::{model::{event::Event, route as r}, admin, push::*}; use chitchat;";
        let expected = ["crate::model::event::Event", "crate::model::route", "crate::admin", "crate::push", "chitchat"];
        assert_eq!(paths(source), expected);
    }

    #[test]
    fn relative_paths_are_resolved_also_in_inline_modules() {
        assert_eq!(
            paths("use super::route; fn f() { super::super::admin::g() }"),
            ["crate::inbound::route", "crate::admin::g"]
        );
        assert_eq!(
            paths("mod tests { use super::*; use super::super::route; }"),
            ["crate::inbound::decode", "crate::inbound::route"]
        );
        assert_eq!(paths("mod a { fn f() {} } use self::b::C;"), ["crate::inbound::decode::b::C"]);
    }

    #[test]
    fn comments_and_literals_do_not_count() {
        let source = r####"
            // a::b
            /* c::d /* e::f */ g::h */
            const S: &str = "i::j \" k::l"; const R: &str = r#"m::n " o::p"#; const B: &[u8] = br"q::r";
            const C: char = '"'; fn life<'a>(x: &'a s::T) {} const Q: char = '\''; fn g() { u::v() }
        "####;
        assert_eq!(paths(source), ["s::T", "u::v"]);
    }

    #[test]
    fn lines_are_counted_through_blanked_text() {
        let blanked = blank_comments_and_literals("/*\n\n*/ \"\n\"; a::b;");
        assert_eq!(named_paths(&blanked, &[])[0].line, 4);
    }
}
