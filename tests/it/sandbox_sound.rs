//! The sandbox's speech: what is said arrives, however the sound is cut into pieces.
use proptest::prelude::*;
use rollcall::sim::{Ear, Heard, Speed, Utterance};

const SILENCE: u8 = 0xFF;

fn sound(number: u32, text: &str, speed: Speed) -> Vec<u8> {
    Utterance::new(number, text, speed).sound()
}

fn whole(utterance: u32, text: &str) -> Heard {
    Heard { utterance, text: text.to_owned(), whole: true, missing: 0, again: 0 }
}

/// Everything that is heard when the sound comes in pieces of these lengths, again and again.
fn heard(sound: &[u8], pieces: &[usize]) -> Vec<Heard> {
    let mut ear = Ear::default();
    let (mut heard, mut rest, mut lengths) = (Vec::new(), sound, pieces.iter().cycle());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(*lengths.next().unwrap()));
        heard.extend(ear.listen(piece));
        rest = after;
    }
    heard.extend(ear.cut());
    heard
}

proptest! {
    #[test]
    fn every_sentence_arrives_whole_at_any_speed_in_any_pieces_with_any_silence_between(
        texts in prop::collection::vec("\\PC{1,40}", 1..4),
        pieces in prop::collection::vec(1_usize..700, 1..6),
        gap in 0_usize..900,
        speed in 0.25_f64..12.0,
    ) {
        let speed: Speed = speed.try_into().unwrap();
        let mut line = Vec::new();
        for (number, text) in (7_u32..).zip(&texts) {
            line.extend(std::iter::repeat_n(SILENCE, gap));
            line.extend(sound(number, text, speed));
        }
        let expected: Vec<Heard> = (7..).zip(&texts).map(|(number, text)| whole(number, text)).collect();
        prop_assert_eq!(heard(&line, &pieces), expected);
    }

    #[test]
    fn a_sentence_that_is_cut_is_heard_up_to_the_cut_and_the_next_one_whole(cut in 0_usize..9_000, silence in 0_usize..500) {
        let text = "I am sorry to interrupt";
        // A cell that lacks its last bits only is whole when these happen to be those of the silence that follows.
        prop_assume!(!(90..120).contains(&(cut % 480)));
        let mut line = sound(1, text, Speed::HUMAN);
        line.truncate(cut);
        line.extend(std::iter::repeat_n(SILENCE, silence));
        line.extend(sound(2, "Yes?", Speed::HUMAN));
        let heard = heard(&line, &[160]);
        prop_assert_eq!(heard.last().unwrap(), &whole(2, "Yes?"));
        if heard.len() == 2 {
            // A cell lasts 480 samples and has said its character after 120 of them.
            prop_assert_eq!(&heard[0].text, &text[..(cut + 360) / 480]);
            prop_assert!(!heard[0].whole);
        } else {
            prop_assert!(cut < 120);
        }
    }

    #[test]
    fn noise_says_nothing(noise in prop::collection::vec(any::<u8>(), 4_000)) {
        prop_assert_eq!(heard(&noise, &[160]), []);
    }
}

#[test]
fn a_lost_frame_is_missed_and_a_doubled_one_is_noticed() {
    let line = sound(3, "one two three", Speed::FASTEST);
    let frames: Vec<&[u8]> = line.chunks(160).collect();
    let without_second = [frames[0], frames[2], frames[3]].concat();
    let lost = &heard(&without_second, &[160])[0];
    assert_eq!((&*lost.text, lost.missing, lost.whole), ("one three", 4, false));
    let doubled = [frames[0], frames[1], frames[1], frames[2], frames[3]].concat();
    let again = &heard(&doubled, &[160])[0];
    assert_eq!((&*again.text, again.again, again.whole), ("one two three", 1, true));
}

#[test]
fn two_sentences_that_are_mixed_stay_two() {
    let (mine, other) = (sound(1, "mine mine mine", Speed::FASTEST), sound(2, "other other ", Speed::FASTEST));
    let mixed: Vec<u8> = mine.chunks(160).zip(other.chunks(160)).flat_map(|(a, b)| [a, b].concat()).collect();
    let numbers: Vec<u32> = heard(&mixed, &[160]).iter().map(|heard| heard.utterance).collect();
    assert!(numbers.len() > 2 && numbers.contains(&1) && numbers.contains(&2), "{numbers:?}");
}

#[test]
fn it_lasts_as_long_as_human_speech_and_a_twelfth_of_that() {
    let text = "a".repeat(100);
    assert_eq!(Utterance::new(1, &text, Speed::HUMAN).length_ms(), 6_000);
    assert_eq!(Utterance::new(1, &text, Speed::FASTEST).length_ms(), 500);
    let mut half = Utterance::new(1, &text, Speed::HUMAN);
    half.speak(&mut vec![0; 24_000]);
    assert_eq!((half.said().len(), half.begins_ms(50)), (50, 3_000));
}
