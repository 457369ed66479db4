//! One layout, and nothing lost on the way to it.

use super::*;

#[test]
fn a_policy_is_laid_out_in_one_way() {
    let text = "# top\n\n\n\nversion=1   # the first\n[service]\n  name   =   \"s\"\n\n\n# a client\n[[client]]\nname=\"a\"\n\
        roles=[ \"r\" ,\"q\",]\nlimits.wall_clock=\"1 s\"\n[[role]]\nname = \"r\"\nallow=[{calls=[\"sign\"],keys=[\"a/*\"]},\n # why\n\
        {calls=[\"hash\"]} # and this\n]\n# end\n\n";
    let expected = "# top\n\nversion = 1   # the first\n\n[service]\nname = \"s\"\n\n# a client\n[[client]]\nname = \"a\"\n\
        roles = [\"r\", \"q\"]\nlimits.wall_clock = \"1 s\"\n\n[[role]]\nname = \"r\"\nallow = [\n  { calls = [\"sign\"], keys = [\"a/*\"] },\n  # why\n  \
        { calls = [\"hash\"] }, # and this\n]\n# end\n";
    let laid_out = formatted(text).unwrap();
    assert_eq!(laid_out, expected);
    assert_eq!(formatted(&laid_out).unwrap(), laid_out);
}

#[test]
fn a_hash_in_a_text_is_no_comment_and_blanks_around_a_dot_go() {
    for (text, expected) in [
        (
            "allow=[{calls=[\"sign\"],message_prefix=[\"#1\"]},   {calls=[\"hash\"]}]\n",
            "allow = [{ calls = [\"sign\"], message_prefix = [\"#1\"] }, { calls = [\"hash\"] }]\n",
        ),
        ("x = [\"#1\",\n\"#2\"] # one\n", "x = [\n  \"#1\",\n  \"#2\",\n] # one\n"),
        ("limits . memory = 1\nlimits\t.\tscript=2\n", "limits.memory = 1\nlimits.script = 2\n"),
        ("'#a' = '#b'#c\n", "'#a' = '#b'#c\n"),
        ("\u{feff}a=1", "\u{feff}a = 1\n"),
        ("", ""),
        ("\n", ""),
        ("# a", "# a\n"),
        ("a=1 # b", "a = 1 # b\n"),
    ] {
        let laid_out = formatted(text).unwrap();
        assert_eq!(laid_out, expected);
        assert_eq!(formatted(&laid_out).unwrap(), laid_out);
    }
}

#[test]
fn what_ships_is_laid_out_so() {
    for entry in std::fs::read_dir("../../policy/examples").unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(formatted(&text).unwrap(), text, "{}", path.display());
    }
}

#[test]
fn a_long_list_has_a_line_for_each_entry() {
    let names: Vec<String> = (0..30).map(|n| format!("\"role-{n}\"")).collect();
    let text = format!("roles = [{}]\n", names.join(", "));
    let laid_out = formatted(&text).unwrap();
    assert_eq!(laid_out.lines().count(), 32);
    assert_eq!(formatted(&laid_out).unwrap(), laid_out);
    assert!(formatted("roles = [").is_err());
    // Whatever stands around it, where it is just about too long.
    for length in 90..130 {
        let name = "p".repeat(length);
        for text in [
            format!("a =[\"{name}\"]\n"),
            format!("a =   [{{ k =[\"{name}\"] }}]\n"),
            format!("a = [[[\"{name}\"] ],  [\"b\"]]\n"),
        ] {
            let laid_out = formatted(&text).unwrap();
            assert_eq!(formatted(&laid_out).unwrap(), laid_out, "{text}");
        }
    }
}

/// The lines without blank ones and without what stands before and behind.
fn trimmed(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn a_comment_before_and_behind_every_line_stays_there() {
    for entry in std::fs::read_dir("../../policy/examples").unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let comment = |(at, line)| format!("# before {at}: [x]\n{line} # behind {at}: \"{{\n");
        let commented: String = text.lines().enumerate().map(comment).collect();
        let laid_out = formatted(&commented).unwrap();
        assert_eq!(trimmed(&laid_out), trimmed(&commented), "{}", path.display());
        assert_eq!(formatted(&laid_out).unwrap(), laid_out);
    }
}

#[test]
fn comments_in_odd_places_are_kept_in_their_order() {
    let text = "#0#\n  #1#\n\nversion=1#2#\n[service]#3#\n#4#\nname='#5#'#6#\n\n#7#\n\n[ limits ] #8#\n\
        #9#\n[[role]]#10#\nname=\"r\"#11#\nlimits.operations=5#12#\n#13#\nallow=[#14#\n#15#\n\
        {calls=[#16#\n\"hash\"#17#\n,#18#\n\"sign\",#19#\n],keys=[\"a/*\"]}#20#\n#21#\n,#22#\n#23#\n\
        {calls=[\"random_bytes\"]}#24#\n#25#\n]#26#\n#27#\ndeny=[#28#\n#29#\n]#30#\n\n\n#31#\n#32#";
    let marks = |text: &str| {
        let numbers = text.split('#').filter_map(|part| part.parse::<usize>().ok());
        numbers.collect::<Vec<usize>>()
    };
    let laid_out = formatted(text).unwrap();
    assert_eq!(marks(&laid_out), (0..=32).collect::<Vec<_>>(), "{laid_out}");
    assert_eq!(formatted(&laid_out).unwrap(), laid_out);
    let parsed = |text| crate::Policy::parse("p.toml", text).unwrap().without_lines();
    assert_eq!(parsed(&laid_out), parsed(text));
}

/// What is compared before and after, so that no comment is lost.
#[test]
fn the_comments_of_a_policy_are_those_that_stand_in_it() {
    let text = "# one\na = 1 # two\n# three\n[b] # four\n# five\nc = [ # six\n  1, # seven\n  # eight\n]\n# nine\n\
        [[d]] # ten\ne . f = { g = [ # eleven\n 1 ] } # twelve\n# thirteen\n";
    let words = "one two three four five six seven eight nine ten eleven twelve thirteen";
    let mut found = comments(&text.parse().unwrap());
    let mut expected: Vec<&str> = words.split(' ').collect();
    found.sort();
    expected.sort_unstable();
    assert_eq!(found, expected);
}
