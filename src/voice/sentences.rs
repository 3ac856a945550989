//! Cuts a model's words into pieces that can be spoken: whole sentences, and a first piece as early as it makes sense.

/// The first piece of a turn may end at a comma once it is so long.
const FIRST_PIECE: usize = 40;
/// A piece without an end is cut at a blank when it is so long.
const LONGEST: usize = 400;
/// Marks behind which no blank is written.
const WIDE_ENDS: &str = "。！？．｡";
/// What belongs to the sentence before it.
const CLOSES: &str = "」』）】》”’｣";

/// Words that wait for the end of their sentence.
#[derive(Default)]
pub(super) struct Sentences {
    waiting: String,
    any: bool,
}

impl Sentences {
    /// Adds words; gives back what can be spoken now, each piece with a blank at its end.
    pub(super) fn add(&mut self, words: &str) -> Option<String> {
        self.waiting.push_str(words);
        let cut = self.cut()?;
        let rest = self.waiting.split_off(cut);
        let piece = std::mem::replace(&mut self.waiting, rest);
        self.any = true;
        Some(spoken(&piece)).filter(|piece| !piece.trim().is_empty())
    }

    /// What is left at the end.
    pub(super) fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.waiting);
        Some(spoken(&rest)).filter(|rest| !rest.trim().is_empty())
    }

    /// Behind the last end of a sentence that is sure to be one: a blank follows it, or its script has none.
    fn cut(&self) -> Option<usize> {
        let text = &self.waiting;
        let ends = |marks: &str| {
            let pairs = text.char_indices().zip(text.chars().skip(1));
            let found = pairs.filter(|((_, mark), next)| marks.contains(*mark) && next.is_whitespace()).last();
            found.map(|((at, mark), next)| at + mark.len_utf8() + next.len_utf8())
        };
        let sentence = text.rfind('\n').map(|at| at + 1).max(ends(".!?…:;")).max(self.wide_end());
        let comma = (!self.any && text.len() >= FIRST_PIECE).then(|| ends(",–—")).flatten();
        let long = (text.len() >= LONGEST).then(|| text.rfind(' ').map(|at| at + 1)).flatten();
        sentence.or(comma).or(long)
    }

    /// Behind the last end of a Chinese or Japanese sentence, with all that closes it; what follows says that this is all.
    fn wide_end(&self) -> Option<usize> {
        let closes = |c| WIDE_ENDS.contains(c) || CLOSES.contains(c);
        let sure = self.waiting.trim_end_matches(closes);
        let mut ends = sure.char_indices().rev().filter(|(_, mark)| WIDE_ENDS.contains(*mark));
        let number =
            |(at, mark): &(usize, char)| *mark == '．' && sure[at + mark.len_utf8()..].starts_with(char::is_numeric);
        let (at, _) = ends.find(|end| !number(end))?;
        Some(self.waiting.len() - self.waiting[at..].trim_start_matches(closes).len())
    }
}

fn spoken(piece: &str) -> String {
    let mut piece = piece.trim_end().to_owned();
    piece.push(' ');
    piece
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(parts: &[&str]) -> Vec<String> {
        let mut sentences = Sentences::default();
        let mut pieces: Vec<_> = parts.iter().filter_map(|part| sentences.add(part)).collect();
        pieces.extend(sentences.rest());
        pieces
    }

    #[test]
    fn whole_sentences_are_spoken_as_soon_as_they_are_there() {
        assert_eq!(pieces(&["Hel", "lo. How", " are you", "? Fine"]), ["Hello. ", "How are you? ", "Fine "]);
        assert_eq!(pieces(&["It is 3.5 percent"]), ["It is 3.5 percent "], "no end within a number");
        let first = pieces(&["Well, I would say that this depends on you, ", "and on me."]);
        assert_eq!(first, ["Well, I would say that this depends on you, ", "and on me. "]);
    }

    #[test]
    fn a_sentence_whose_script_has_no_blanks_ends_with_its_mark() {
        let chinese = pieces(&["你", "好。我", "很好！？你", "呢？"]);
        assert_eq!(chinese, ["你好。 ", "我很好！？ ", "你呢？ "]);
        assert_eq!(pieces(&["「はい。", "」と", "言った｡ﾊｲ"]), ["「はい。」 ", "と言った｡ ", "ﾊｲ "]);
        assert_eq!(pieces(&["約３．５です。", "3つ"]), ["約３．５です。 ", "3つ "], "no end within a number");
        assert_eq!(pieces(&["好。  Wait.\u{3000}So"]), ["好。  Wait. ", "So "], "blanks of any width");
    }

    proptest! {
        #[test]
        fn no_word_is_lost_or_doubled(parts in prop::collection::vec("[a-zäé .,?!\n–\u{3000}好3。！？．」]{0,12}", 0..30)) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&pieces(&parts).concat()), letters(&parts.concat()));
        }
    }
}
