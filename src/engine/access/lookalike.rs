//! Names that a lenient reader upstream could take for another name.

/// Whether `name` is not `known` but could be read as it: equal after case folding and after trimming of blanks, control
/// and invisible characters.
pub(super) fn looks_like(name: &str, known: &str) -> bool {
    if name == known {
        return false;
    }
    if name.is_ascii() && known.is_ascii() {
        return trimmed(name).eq_ignore_ascii_case(trimmed(known));
    }
    folded(name).eq(folded(known))
}

/// Upper case first: it brings `ſ` to `S`, and lower case then brings the Kelvin sign to `k`.
fn folded(name: &str) -> impl Iterator<Item = char> + '_ {
    trimmed(name).chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

fn trimmed(name: &str) -> &str {
    name.trim_matches(|character: char| {
        character.is_whitespace()
            || character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}')
    })
}

#[cfg(test)]
mod tests {
    use super::looks_like;

    #[test]
    fn case_blanks_and_invisible_characters_deceive() {
        for name in ["Path", "PATH", " path", "path\0", "\u{feff}path", "path\u{200b}"] {
            assert!(looks_like(name, "path"), "{name:?} can be read as path");
        }
        assert!(looks_like("ſcope", "scope"), "long s folds to s in Go and Java");
        assert!(looks_like("\u{212a}ey", "key"), "the Kelvin sign folds to k");
        for name in ["path", "paths", "pa th", "p"] {
            assert!(!looks_like(name, "path"), "{name:?} is itself or another name");
        }
    }
}
