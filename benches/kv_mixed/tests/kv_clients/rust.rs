//! Drives the crate `redis`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use redis::{
    Client, Commands, Connection, ErrorKind, ExistenceCheck, RedisResult, SetOptions, Value,
};

use super::driver::Told;

/// Does what its documentation begins with, and increments the key until it is told to stop.
pub(crate) fn drive(key: &str, addresses: &[SocketAddr], told: &Told) -> Result<(), String> {
    for protocol in ["resp2", "resp3"] {
        let mut connection = connect(&addresses[0], protocol).map_err(|e| e.to_string())?;
        first_page(&mut connection, &format!("{key}:{protocol}:")).map_err(|e| e.to_string())?;
    }
    let mut addresses = addresses.iter().cycle();
    let mut connection = None;
    while !told.is_to_stop.load(Ordering::Relaxed) {
        match increment(&mut connection, &mut addresses, key) {
            Ok(()) => drop(told.acknowledged.fetch_add(1, Ordering::Relaxed)),
            Err(e) if e.is_io_error() || e.is_connection_dropped() => {
                told.lost.lock().unwrap().push(e.to_string());
                connection = None;
            }
            Err(e) => return Err(e.to_string()),
        }
    }
    Ok(())
}

fn connect(address: &SocketAddr, protocol: &str) -> RedisResult<Connection> {
    Client::open(format!("redis://{address}/?protocol={protocol}"))?.get_connection()
}

fn increment<'a>(
    connection: &mut Option<Connection>,
    addresses: &mut impl Iterator<Item = &'a SocketAddr>,
    key: &str,
) -> RedisResult<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => {
            let address = addresses.next().expect("a cycle has no end");
            connection.insert(connect(address, "resp2")?)
        }
    };
    connection.incr::<_, _, i64>(key, 1).map(drop)
}

fn first_page(r: &mut Connection, p: &str) -> RedisResult<()> {
    let key = |name: &str| format!("{p}{name}");
    let () = r.set(key("my_key"), 42)?;
    assert_eq!(r.get::<_, i64>(key("my_key"))?, 42);
    assert_eq!(r.get::<_, Option<String>>(key("none"))?, None);
    let new = SetOptions::default().conditional_set(ExistenceCheck::NX);
    assert_eq!(r.set_options::<_, _, Value>(key("my_key"), 1, new)?, Value::Nil);
    let old = SetOptions::default().conditional_set(ExistenceCheck::XX).get(true);
    assert_eq!(r.set_options::<_, _, i64>(key("my_key"), 43, old)?, 42);
    assert!(!r.set_nx::<_, _, bool>(key("my_key"), 1)?);
    assert_eq!(r.getset::<_, _, i64>(key("my_key"), 44)?, 43);
    let () = r.mset(&[(key("a"), "1"), (key("b"), "2")])?;
    assert_eq!(r.mget::<_, Vec<String>>(&[key("a"), key("b")])?, ["1", "2"]);
    assert_eq!(r.incr::<_, _, i64>(key("a"), 9)?, 10);
    assert_eq!(r.decr::<_, _, i64>(key("a"), 4)?, 6);
    assert_eq!(r.append::<_, _, i64>(key("b"), "34")?, 3);
    assert_eq!(r.strlen::<_, i64>(key("b"))?, 3);
    assert!(r.exists::<_, bool>(key("a"))?);
    assert_eq!(r.ttl::<_, i64>(key("a"))?, -1);
    let found: BTreeSet<String> = r.scan_match(format!("{p}*"))?.collect::<RedisResult<_>>()?;
    assert_eq!(found, ["a", "b", "my_key"].map(key).into());
    let (first, second): (i64, i64) = redis::pipe()
        .cmd("SET")
        .arg(key("a"))
        .arg(1)
        .ignore()
        .incr(key("a"), 1)
        .get(key("a"))
        .query(r)?;
    assert_eq!((first, second), (2, 2));
    assert_eq!(r.get_del::<_, i64>(key("my_key"))?, 44);
    assert_eq!(r.del::<_, i64>(&[key("a"), key("none")])?, 1);
    assert_eq!(r.unlink::<_, i64>(key("b"))?, 1);
    let refused = r.set_ex::<_, _, ()>(key("a"), 1, 10).unwrap_err();
    assert!(refused.to_string().contains("keys do not expire here"), "{refused}");
    let unknown = r.lpush::<_, _, ()>(key("list"), 1).unwrap_err();
    assert!(unknown.to_string().contains("unknown command"), "{unknown}");
    assert!(!matches!(unknown.kind(), ErrorKind::Io | ErrorKind::Parse), "{unknown:?}");
    Ok(())
}
