// SPDX-License-Identifier: Apache-2.0
//! When is a regular expression compiled, and what is known of it without that?
//!
//! Compiling one takes 20 to 50 µs, a hundred times as long as reading it. Of tens of thousands a worker meets a few, so each is checked
//! when it is loaded and compiled when it is first asked. What is so large that it might not compile, or would stall a request, is
//! compiled at once.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};
use std::sync::{Arc, OnceLock};

/// Longest text of an expression, in bytes.
const PATTERN_LIMIT_BYTES: usize = 32 * 1024;
/// Largest compiled form, in bytes; the library's own default, stated.
const COMPILED_LIMIT_BYTES: usize = 10 * 1024 * 1024;
/// Up to this many steps ([`step_count`]) an expression is compiled when first used. A step takes about 100 bytes, so it can't fail then.
const LAZY_STEPS: usize = 5_000;

/// A regular expression that was checked; linear time whatever the text.
#[derive(Debug)]
pub(super) struct LazyRegex {
    pattern: Box<str>,
    ignores_case: bool,
    steps: usize,
    compiled: OnceLock<Option<CompiledRegex>>,
}

#[derive(Debug)]
pub(super) struct CompiledRegex {
    pub(super) regex: Regex,
    /// By number of the group; `[0]` is the whole match.
    pub(super) names: Arc<[Option<Arc<str>>]>,
}

impl LazyRegex {
    /// Checks an expression.
    ///
    /// # Errors
    /// It is not one, or too large; the text says what and where.
    pub(super) fn new(pattern: String, ignores_case: bool) -> Result<Self, String> {
        if pattern.len() > PATTERN_LIMIT_BYTES {
            return Err(format!("it is longer than {PATTERN_LIMIT_BYTES} bytes"));
        }
        let read = ParserBuilder::new().utf8(false).case_insensitive(ignores_case).build().parse(&pattern);
        let steps = step_count(&read.map_err(|error| error.to_string())?);
        let lazy = LazyRegex { pattern: pattern.into(), ignores_case, steps, compiled: OnceLock::new() };
        if steps > LAZY_STEPS {
            let compiled = lazy.compile()?;
            let _ = lazy.compiled.set(Some(compiled));
        }
        Ok(lazy)
    }

    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// About how large it is once compiled, in steps of 100 bytes.
    pub(super) fn step_count(&self) -> usize {
        self.steps
    }

    fn compile(&self) -> Result<CompiledRegex, String> {
        let built = RegexBuilder::new(&self.pattern).case_insensitive(self.ignores_case).size_limit(COMPILED_LIMIT_BYTES).build();
        let regex = built.map_err(|error| error.to_string())?;
        let names = regex.capture_names().map(|name| name.map(Arc::from)).collect();
        Ok(CompiledRegex { regex, names })
    }

    /// The expression, compiled; none if that failed, which [`LazyRegex::new`] excludes.
    pub(super) fn compiled(&self) -> Option<&CompiledRegex> {
        self.compiled.get_or_init(|| self.compile().ok()).as_ref()
    }

    #[inline]
    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        self.compiled().is_some_and(|compiled| compiled.regex.is_match(text))
    }
}

/// About how many steps a matcher of this expression has. The parser bounds the depth, so this may recurse.
fn step_count(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => class.ranges().len(),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len(),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min + 1).max(1) as usize;
            step_count(&repetition.sub).saturating_mul(times)
        }
        HirKind::Capture(capture) => step_count(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().fold(1, |sum, part| sum.saturating_add(step_count(part))),
    }
}

/// What keeps a path's or a header's regular expression from being compiled; none if nothing does.
pub fn regex_problem(pattern: &str) -> Option<String> {
    LazyRegex::new(pattern.to_owned(), false).err()
}

/// The text that every match of the expression begins with, and the longest one that comes after; both empty when in doubt. The
/// expression is anchored at its start, but the anchor binds to the first branch of a top-level alternation only.
pub(super) fn literals(pattern: &str) -> (String, String) {
    if has_top_level_alternation(pattern) {
        return (String::new(), String::new());
    }
    let mut scan = LiteralScan { characters: pattern.chars().peekable(), run: String::new(), runs: Vec::new() };
    scan.walk();
    scan.end_run();
    let mut runs = scan.runs.into_iter();
    let first = runs.next().unwrap_or_default();
    let longest = runs.max_by_key(String::len).unwrap_or_default();
    (first, longest)
}

/// Collects the texts between the parts of an expression that may vary. The first one, even if empty, stands at the start.
struct LiteralScan<'a> {
    characters: std::iter::Peekable<std::str::Chars<'a>>,
    run: String,
    runs: Vec<String>,
}

impl LiteralScan<'_> {
    fn end_run(&mut self) {
        if self.runs.is_empty() || !self.run.is_empty() {
            self.runs.push(std::mem::take(&mut self.run));
        }
    }

    fn walk(&mut self) {
        while let Some(character) = self.characters.next() {
            let plain = match character {
                '\\' => match self.characters.next() {
                    // A class or an assertion of one character.
                    Some('d' | 'D' | 'w' | 'W' | 's' | 'S' | 'b' | 'B' | '<' | '>') => None,
                    Some(escaped) if escaped.is_ascii_punctuation() => Some(escaped),
                    _ => return,
                },
                '[' => {
                    self.skip_class();
                    None
                }
                '(' => {
                    if !self.skip_group() {
                        return;
                    }
                    None
                }
                '.' | '^' | '$' => None,
                ')' | '{' | '*' | '+' | '?' | '|' => return,
                other => Some(other),
            };
            let repetition = self.skip_repetition();
            match (plain, repetition) {
                (Some(plain), None) => self.run.push(plain),
                // It is there once, and may be followed by itself.
                (Some(plain), Some('+')) => {
                    self.run.push(plain);
                    self.end_run();
                }
                _ => self.end_run(),
            }
        }
    }

    /// Steps over `*`, `+`, `?` or `{…}`, also when lazy or doubled, and says which it was.
    fn skip_repetition(&mut self) -> Option<char> {
        let first = self.characters.next_if(|next| matches!(next, '*' | '+' | '?' | '{'))?;
        let mut is_plus = first == '+';
        let mut current = first;
        loop {
            if current == '{' {
                self.characters.by_ref().find(|character| *character == '}');
            }
            let Some(next) = self.characters.next_if(|next| matches!(next, '*' | '+' | '?' | '{')) else { break };
            // `a+?` is lazy, `a+*` may be empty.
            is_plus &= next == '?';
            current = next;
        }
        Some(if is_plus { '+' } else { '*' })
    }

    fn skip_class(&mut self) {
        let mut depth = 1;
        self.characters.next_if_eq(&'^');
        self.characters.next_if_eq(&']');
        while depth > 0 {
            match self.characters.next() {
                Some('\\') => {
                    self.characters.next();
                }
                Some('[') => {
                    depth += 1;
                    self.characters.next_if_eq(&'^');
                    self.characters.next_if_eq(&']');
                }
                Some(']') => depth -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }

    /// False when the group may change how what follows is read, as `(?i)` does.
    fn skip_group(&mut self) -> bool {
        if self.characters.next_if_eq(&'?').is_some() && !self.characters.peek().is_some_and(|next| matches!(next, ':' | '<' | 'P')) {
            return false;
        }
        let mut depth = 1;
        while depth > 0 {
            match self.characters.next() {
                Some('\\') => {
                    self.characters.next();
                }
                Some('[') => self.skip_class(),
                Some('(') => depth += 1,
                Some(')') => depth -= 1,
                Some(_) => {}
                None => return false,
            }
        }
        true
    }
}

/// Is there, or could there be, a `|` outside all groups?
pub(super) fn has_top_level_alternation(pattern: &str) -> bool {
    // Verbose mode allows comments, which could hide anything.
    let may_be_verbose =
        pattern.match_indices("(?").any(|(at, _)| pattern[at + 2..].chars().take_while(char::is_ascii_lowercase).any(|flag| flag == 'x'));
    if may_be_verbose {
        return true;
    }
    let mut depth = 0i32;
    let mut class_depth = 0i32;
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '[' => {
                class_depth += 1;
                if characters.peek() == Some(&'^') {
                    characters.next();
                }
                if characters.peek() == Some(&']') {
                    characters.next();
                }
            }
            ']' if class_depth > 0 => class_depth -= 1,
            _ if class_depth > 0 => {}
            '(' => depth += 1,
            ')' => depth -= 1,
            '|' if depth <= 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_found_and_never_too_long() {
        for (pattern, first, inner) in [
            ("/users/(?<id>[0-9]+)", "/users/", ""),
            ("/users/(?<id>[0-9]+)/orders-17", "/users/", "/orders-17"),
            ("/a.b", "/a", "b"),
            (r"/a\.b/\d", "/a.b/", ""),
            (r"/a\.b/\d+/xy\w/z", "/a.b/", "/xy"),
            (r"/a/\x41/bcd", "/a/", ""),
            (r"/a/\p{L}/bcd", "/a/", ""),
            ("/ab?", "/a", ""),
            ("/ab*/cd", "/a", "/cd"),
            ("/ab{0,2}/cd", "/a", "/cd"),
            ("/ab+c", "/ab", "c"),
            ("/ab+?c", "/ab", "c"),
            ("/ab+*c", "/a", "c"),
            ("/a|/b", "", ""),
            ("/(a|b)/(c(d)[)])*?/ef$", "/", "/ef"),
            ("/[|]x", "/", "x"),
            ("/x[]|]|/y", "", ""),
            (r"/a\|b", "/a|b", ""),
            (r"/api\>", "/api", ""),
            (r"/a\<bc", "/a", "bc"),
            ("(?i)/a", "", ""),
            ("/a(?i)b", "/a", ""),
            ("/a(?i:b)c", "/a", ""),
            ("/a(?:b)cd", "/a", "cd"),
            ("/a(?P<n>b)cd", "/a", "cd"),
            ("/a(?x) # (\n|/b", "", ""),
            ("/é?x", "/", "x"),
            ("[ab]/cd", "", "/cd"),
            ("/$", "/", ""),
            ("", "", ""),
        ] {
            assert_eq!(literals(pattern), (first.to_string(), inner.to_string()), "{pattern}");
        }
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused_at_once() {
        for pattern in
            ["(", "a{2", "[b-a]", r"\p{Nothing}", "(?=x)", r"(a)\1", "((a{100}){100}){100}", &"(".repeat(300), &"a".repeat(40_000)]
        {
            assert!(regex_problem(pattern).is_some(), "{pattern:.40}");
        }
        for pattern in ["", "/a", r"^/users/\w{1,64}$", r"(?<id>\d+)", "(?i)x"] {
            assert_eq!(regex_problem(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn what_was_checked_compiles() {
        let large_but_lazy = format!("(?:{})", [r"\w"; 6].join("|"));
        for pattern in [large_but_lazy.as_str(), "[a-z]{1,180}x", r"(\d{1,9}/){1,8}"] {
            let lazy = LazyRegex::new(pattern.to_owned(), false).expect("an expression");
            assert!(lazy.compiled().is_some(), "{pattern}");
        }
    }
}
