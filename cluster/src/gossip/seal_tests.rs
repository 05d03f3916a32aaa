//! What opens and what does not.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::*;

const OLD: &str = "the old secret of the cluster";
const NEW: &str = "the new secret of the cluster";
const MESSAGE: &[u8] = b"n1 is at 10.0.0.1:7000";

fn prks(secrets: &[&str]) -> Vec<Prk> {
    extract(&secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect::<Vec<_>>())
}

fn sealer(secrets: &[&str], label: &str, run: u8) -> Sealer {
    Sealer::new(&prks(secrets)[0], label, &[run; 16]).unwrap()
}

/// Of the run 0.
fn opener(secrets: &[&str]) -> Opener {
    Opener::new(prks(secrets), "test", [0; 16])
}

#[test]
fn what_is_sealed_opens_once_and_shows_nothing() {
    let (mut sealer, mut opener) = (sealer(&[NEW], "test", 1), opener(&[NEW]));
    let datagrams: Vec<_> = (0..3).map(|_| sealer.seal(MESSAGE).unwrap()).collect();
    for datagram in &datagrams {
        assert_eq!(datagram.len(), MESSAGE.len() + 4 + 1 + 1 + "test".len() + 16 + 8 + 16);
        for piece in MESSAGE.windows(4) {
            assert!(!datagram.windows(4).any(|bytes| bytes == piece), "{datagram:02x?}");
        }
        assert_eq!(opener.open(datagram).unwrap(), MESSAGE);
    }
    assert_ne!(datagrams[0][datagrams[0].len() - 16..], datagrams[1][datagrams[1].len() - 16..]);
    for datagram in &datagrams {
        assert_eq!(opener.open(datagram), Err(Refusal::Replay));
    }
    assert_eq!(opener.open(&sealer.seal(b"").unwrap()).unwrap(), b"");
}

/// During a rotation: see docs/operations.md.
#[test]
fn the_first_secret_seals_and_any_opens() {
    for (theirs, ours, good) in [
        (vec![OLD], vec![OLD], true),
        (vec![OLD], vec![OLD, NEW], true),
        (vec![OLD, NEW], vec![OLD], true),
        (vec![OLD, NEW], vec![NEW, OLD], true),
        (vec![NEW, OLD], vec![OLD, NEW], true),
        (vec![NEW, OLD], vec![NEW], true),
        (vec![NEW], vec![NEW, OLD], true),
        (vec![NEW, OLD], vec![OLD], false),
        (vec![NEW], vec![OLD], false),
    ] {
        let (mut sealer, mut opener) = (sealer(&theirs, "test", 1), opener(&ours));
        let expected = if good { Ok(MESSAGE.to_vec()) } else { Err(Refusal::Key) };
        for _ in 0..3 {
            assert_eq!(opener.open(&sealer.seal(MESSAGE).unwrap()), expected, "{theirs:?} {ours:?}");
        }
    }
}

/// Known runs and new ones go different ways.
#[test]
fn a_change_anywhere_is_refused() {
    let mut sealer = sealer(&[NEW], "test", 1);
    let (first, second) = (sealer.seal(MESSAGE).unwrap(), sealer.seal(MESSAGE).unwrap());
    let mut knows = opener(&[OLD, NEW]);
    knows.open(&first).unwrap();
    let mut fresh = opener(&[OLD, NEW]);
    for at in 0..second.len() {
        for bit in 0..8 {
            let mut altered = second.clone();
            altered[at] ^= 1 << bit;
            let expected = match at {
                0..4 => Refusal::Foreign,
                4 => Refusal::Version,
                // A length beyond the end is no datagram of ours.
                5 if altered[at] as usize > second.len() - 6 => Refusal::Foreign,
                5..10 => Refusal::Label,
                _ => Refusal::Key,
            };
            for opener in [&mut knows, &mut fresh] {
                assert_eq!(opener.open(&altered), Err(expected), "bit {bit} of byte {at}");
            }
        }
    }
    for length in 0..second.len() {
        assert!(knows.open(&second[..length]).is_err(), "cut to {length}");
        assert!(fresh.open(&second[..length]).is_err(), "cut to {length}");
    }
    let longer = [second.as_slice(), &[0]].concat();
    assert_eq!(knows.open(&longer), Err(Refusal::Key));
    assert_eq!(knows.open(&second).unwrap(), MESSAGE, "what was refused has used up no number");
    assert_eq!(fresh.open(&second).unwrap(), MESSAGE);
}

#[test]
fn another_label_is_another_world() {
    let mut opener = opener(&[NEW]);
    for label in ["other", "tes", "test2", ""] {
        assert_eq!(opener.open(&sealer(&[NEW], label, 1).seal(MESSAGE).unwrap()), Err(Refusal::Label), "{label}");
    }
    // Not even when the readable part is written anew.
    let mut renamed = sealer(&[NEW], "tesu", 1).seal(MESSAGE).unwrap();
    renamed[9] = b't';
    assert_eq!(opener.open(&renamed), Err(Refusal::Key));
    assert!(Sealer::new(&prks(&[NEW])[0], &"x".repeat(LABEL_BYTES_MAX), &[1; 16]).is_ok());
    assert!(Sealer::new(&prks(&[NEW])[0], &"x".repeat(LABEL_BYTES_MAX + 1), &[1; 16]).is_err());
}

#[test]
fn what_is_not_ours_is_told_apart() {
    let mut opener = opener(&[NEW]);
    let plain = [CHITCHAT_MAGIC.as_slice(), b"\x01\x00 and so on"].concat();
    assert_eq!(opener.open(&plain), Err(Refusal::Plaintext));
    assert_eq!(opener.open(&CHITCHAT_MAGIC), Err(Refusal::Plaintext));
    for foreign in [b"".as_slice(), b"W", b"WSGC\x01 a handshake", b"GET / HTTP/1.1\r\n", b"WSGG", b"WSGG\x01"] {
        assert_eq!(opener.open(foreign), Err(Refusal::Foreign), "{foreign:?}");
    }
    assert_eq!(opener.open(b"WSGG\x02"), Err(Refusal::Version));
}

#[test]
fn what_comes_back_to_its_sender_is_refused() {
    let mut opener = opener(&[NEW]);
    let own = sealer(&[NEW], "test", 0).seal(MESSAGE).unwrap();
    assert_eq!(opener.open(&own), Err(Refusal::Own));
    // Whoever only claims to be this node is told from it.
    assert_eq!(opener.open(&sealer(&[OLD], "test", 0).seal(MESSAGE).unwrap()), Err(Refusal::Key));
}

#[test]
fn runs_do_not_share_numbers_or_keys() {
    let mut opener = opener(&[NEW]);
    let (mut one, mut two) = (sealer(&[NEW], "test", 1), sealer(&[NEW], "test", 2));
    let (of_one, of_two) = (one.seal(MESSAGE).unwrap(), two.seal(MESSAGE).unwrap());
    let sealed_at = of_one.len() - MESSAGE.len() - 16;
    assert_ne!(of_one[sealed_at..], of_two[sealed_at..], "the same message with the same number");
    assert_eq!(opener.open(&of_one).unwrap(), MESSAGE);
    assert_eq!(opener.open(&of_two).unwrap(), MESSAGE);
    // A message under another sender's name.
    let moved = [&of_two[..sealed_at], &one.seal(MESSAGE).unwrap()[sealed_at..]].concat();
    assert_eq!(opener.open(&moved), Err(Refusal::Key));
}

/// The handshake proves with HMAC-SHA256 under the secret itself; HKDF begins with one under its salt.
#[test]
fn the_key_is_not_the_secret_nor_a_proof_of_the_handshake() {
    let run = [1; 16];
    let mut taken = sealer(&[NEW], "test", 1).seal(MESSAGE).unwrap();
    let sealed = taken.split_off(taken.len() - MESSAGE.len() - 16);
    let hmac = |key: &[u8], text: &[u8]| -> [u8; 32] {
        let mac = Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text);
        mac.finalize().into_bytes().into()
    };
    let opens = |key: &[u8; 32]| {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key).unwrap());
        opened(&key, 0, &taken, &sealed).is_some()
    };
    // RFC 5869, written out: what another program would need to read gossip.
    let info = [KEY_OF_RUN, &run, &[1]].concat();
    assert!(opens(&hmac(&hmac(SALT, NEW.as_bytes()), &info)));
    for wrong in [hmac(NEW.as_bytes(), &info), hmac(NEW.as_bytes(), SALT), hmac(SALT, NEW.as_bytes())] {
        assert!(!opens(&wrong));
    }
}
