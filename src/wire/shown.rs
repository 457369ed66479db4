//! Text of others, made fit to be shown on a terminal or in a log.

/// The text with control and formatting characters escaped, cut off after `most` characters. Line
/// ends stay only where `lines` says so: one message must not look like two.
#[must_use]
pub fn shown(text: &str, most: usize, lines: bool) -> String {
    let mut shown = String::new();
    for (number, character) in text.chars().enumerate() {
        if number >= most {
            shown.push_str("...");
            break;
        }
        if steers(character) && !(lines && character == '\n') {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Controls, and what changes how the text around it is shown or is not seen in it (Unicode
/// bidirectional controls, zero widths, line separators, annotations, tags).
#[must_use]
pub fn steers(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_steers_a_terminal() {
        let text = "a\u{1b}[2J\u{202e}b\nc\u{200b}d";
        assert_eq!(shown(text, 100, false), "a\\u{1b}[2J\\u{202e}b\\nc\\u{200b}d");
        assert_eq!(shown("a\nb", 100, true), "a\nb");
        assert_eq!(shown("abcdef", 3, false), "abc...");
    }
}
