use super::*;

fn set(key: &'static str, value: &'static str) -> Write {
    Write::Set { key: key.into(), value: value.into() }
}

fn apply(store: &mut Store, write: &Write) -> Frame {
    let index = store.watch().summary().applied.get() + 1;
    let name = format!("1.{index}.0").parse().unwrap();
    store.apply(Index::new(index), write.encode(name))
}

fn get(store: &Store, key: &'static str) -> Frame {
    store.read(&[Read::Get { key: key.into() }]).remove(0)
}

#[test]
fn writes_are_seen_by_reads() {
    let mut store = Store::new();
    assert_eq!(apply(&mut store, &set("k", "v")), resp::ok());
    assert_eq!(get(&store, "k"), Frame::BulkString("v".into()));
    let delete = Write::Delete { keys: vec!["k".into(), "none".into(), "k".into()] };
    assert_eq!(apply(&mut store, &delete), Frame::Integer(1));
    assert_eq!(get(&store, "k"), Frame::Null);
    assert_eq!(store.watch().summary().applied, Index::new(2));
}

#[test]
fn increment_counts_and_refuses_what_is_no_number() {
    let mut store = Store::new();
    let increment = Write::Increment { key: "n".into() };
    assert_eq!(apply(&mut store, &increment), Frame::Integer(1));
    assert_eq!(apply(&mut store, &increment), Frame::Integer(2));
    for bad in ["+1", "007", "-0", " 1", "x", "9223372036854775807"] {
        apply(&mut store, &set("n", bad));
        assert!(matches!(apply(&mut store, &increment), Frame::Error(_)), "{bad}");
        assert_eq!(get(&store, "n"), Frame::BulkString(bad.into()), "unchanged");
    }
}

#[test]
fn a_write_that_comes_again_changes_nothing() {
    let mut store = Store::new();
    let command = Write::Increment { key: "n".into() }.encode("1.1.0".parse().unwrap());
    for index in 1..=3 {
        assert_eq!(store.apply(Index::new(index), command.clone()), Frame::Integer(1));
    }
    assert_eq!(get(&store, "n"), Frame::BulkString("1".into()));
}

#[test]
fn the_digest_depends_on_the_data_and_not_on_how_it_came() {
    let digest = |writes: &[Write]| {
        let mut store = Store::new();
        for write in writes {
            apply(&mut store, write);
        }
        store.watch().summary().digest
    };
    let delete = |key: &'static str| Write::Delete { keys: vec![key.into()] };
    let one = digest(&[set("a", "1"), set("b", "2")]);
    assert_eq!(
        one,
        digest(&[set("b", "0"), set("c", "3"), set("b", "2"), delete("c"), set("a", "1")])
    );
    assert_ne!(one, digest(&[set("a", "2"), set("b", "1")]));
    assert_ne!(one, digest(&[set("a", "1")]));
    assert_ne!(digest(&[set("ab", "c")]), digest(&[set("a", "bc")]));
    assert_eq!(digest(&[set("a", "1"), delete("a")]), Digest::default());
}

#[test]
fn a_command_that_is_not_known_is_not_skipped() {
    let unknown = Bytes::from_static(
        b"*5\r\n$4\r\nONCE\r\n$5\r\n1.1.0\r\n$2\r\nV9\r\n$5\r\nSETNX\r\n$1\r\nk\r\n",
    );
    let mut store = Store::new();
    let why = store.understands(&unknown).unwrap_err().to_string();
    assert!(why.contains("SETNX of version 9"), "{why}");
    let skipped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.apply(Index::new(1), unknown);
    }));
    assert!(skipped.is_err(), "the host did not ask, and must not go on");
    let known = set("k", "v").encode("1.1.0".parse().unwrap());
    assert_eq!(Store::new().understands(&known), Ok(()));
}

#[test]
fn a_write_is_applied_and_not_the_one_that_was_asked_about() {
    let mut store = Store::new();
    let asked = set("k", "asked").encode("1.1.0".parse().unwrap());
    let applied = set("k", "other").encode("1.2.0".parse().unwrap());
    store.understands(&asked).unwrap();
    store.apply(Index::new(1), applied);
    assert_eq!(get(&store, "k"), Frame::BulkString("other".into()));
    let again = set("k", "again").encode("1.3.0".parse().unwrap());
    store.understands(&again).unwrap();
    store.apply(Index::new(2), again);
    assert_eq!(get(&store, "k"), Frame::BulkString("again".into()));
}

#[test]
fn set_does_what_its_options_say() {
    let with = |value: &'static str, condition, returns_old| Write::SetWith {
        key: "k".into(),
        value: value.into(),
        condition,
        returns_old,
    };
    let bulk = |text: &'static str| Frame::BulkString(text.into());
    let (new, exists) = (Some(Condition::IsNew), Some(Condition::Exists));
    let mut store = Store::new();
    for (write, reply, then) in [
        (with("a", exists, false), Frame::Null, Frame::Null),
        (with("a", exists, true), Frame::Null, Frame::Null),
        (with("a", new, false), resp::ok(), bulk("a")),
        (with("b", new, false), Frame::Null, bulk("a")),
        (with("b", new, true), bulk("a"), bulk("a")),
        (with("b", exists, true), bulk("a"), bulk("b")),
        (with("c", None, true), bulk("b"), bulk("c")),
        (with("d", exists, false), resp::ok(), bulk("d")),
        (Write::SetNew { key: "k".into(), value: "e".into() }, Frame::Integer(0), bulk("d")),
        (Write::GetDelete { key: "k".into() }, bulk("d"), Frame::Null),
        (Write::GetDelete { key: "k".into() }, Frame::Null, Frame::Null),
        (Write::SetNew { key: "k".into(), value: "e".into() }, Frame::Integer(1), bulk("e")),
    ] {
        assert_eq!(apply(&mut store, &write), reply, "{write:?}");
        assert_eq!(get(&store, "k"), then, "{write:?}");
    }
}

#[test]
fn many_are_set_together_and_the_last_of_a_key_counts() {
    let mut store = Store::new();
    let pairs = vec![("a".into(), "1".into()), ("b".into(), "2".into()), ("a".into(), "3".into())];
    assert_eq!(apply(&mut store, &Write::SetMany { pairs }), resp::ok());
    assert_eq!(get(&store, "a"), Frame::BulkString("3".into()));
    assert_eq!(get(&store, "b"), Frame::BulkString("2".into()));
}

#[test]
fn append_stops_at_the_longest_value() {
    let mut store = Store::new();
    let append = |bytes| Write::Append { key: "k".into(), value: vec![b'x'; bytes].into() };
    assert_eq!(apply(&mut store, &append(3)), Frame::Integer(3));
    assert_eq!(apply(&mut store, &append(2)), Frame::Integer(5));
    assert_eq!(apply(&mut store, &append(VALUE_BYTES_MAX - 5)), resp::integer(VALUE_BYTES_MAX));
    assert!(matches!(apply(&mut store, &append(1)), Frame::Error(_)));
    let length = store.read(&[Read::Length { key: "k".into() }]).remove(0);
    assert_eq!(length, resp::integer(VALUE_BYTES_MAX));
}

#[test]
fn numbers_go_up_and_down_and_not_beyond_their_range() {
    let mut store = Store::new();
    let by = |by| Write::IncrementBy { key: "n".into(), by };
    assert_eq!(apply(&mut store, &by(-7)), Frame::Integer(-7));
    assert_eq!(apply(&mut store, &by(i64::MAX)), Frame::Integer(i64::MAX - 7));
    for overflow in [8, i64::MAX] {
        let Frame::Error(text) = apply(&mut store, &by(overflow)) else { panic!("no overflow") };
        assert_eq!(text, "ERR increment or decrement would overflow");
    }
    assert_eq!(get(&store, "n"), Frame::BulkString((i64::MAX - 7).to_string().into()));
}

#[test]
fn keys_are_told_by_pattern_and_only_if_there_are_few() {
    let mut store = Store::new();
    for number in 0..KEYS_MAX {
        store.contents.values.insert(format!("key:{number}").into(), "v".into());
    }
    let ask = |store: &Store, pattern: &'static str| {
        store.read(&[Read::Keys { pattern: pattern.into() }]).remove(0)
    };
    let Frame::Array(found) = ask(&store, "key:1?") else { panic!("a list") };
    assert_eq!(found.len(), 10);
    store.contents.values.insert("one more".into(), "v".into());
    assert!(matches!(ask(&store, "key:1?"), Frame::Error(_)));

    let scan = Read::Scan { cursor: 0, pattern: "one*".into(), count: usize::MAX };
    let Frame::Array(reply) = store.read(&[scan]).remove(0) else { panic!("a list") };
    assert!(matches!(&reply[..], [Frame::BulkString(_), Frame::Array(_)]), "{reply:?}");
}

#[test]
fn a_key_without_an_end_has_no_time_to_live() {
    let mut store = Store::new();
    store.contents.values.insert("k".into(), "v".into());
    let asked = |key: &'static str| {
        store.read(&[Read::TimeToLive { key: key.into() }, Read::Type { key: key.into() }])
    };
    assert_eq!(asked("k"), [Frame::Integer(-1), Frame::SimpleString("string".into())]);
    assert_eq!(asked("none"), [Frame::Integer(-2), Frame::SimpleString("none".into())]);
}

#[test]
fn answers_are_bounded() {
    let mut store = Store::new();
    let value = Bytes::from(vec![b'x'; REPLY_BYTES_MAX / 2]);
    store.contents.values.insert("big".into(), value);
    let get = Read::Get { key: "big".into() };
    assert_eq!(store.read(&[get.clone(), get.clone(), get.clone()]).len(), 2);
    let many = Read::GetMany { keys: vec!["big".into(); 3] };
    assert!(matches!(store.read(&[many]).remove(0), Frame::Error(_)));
}
