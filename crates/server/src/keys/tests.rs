use model::{
    command::{Command, DestroyDataKey, PutTarget, Reseal, Resealed, Stamped},
    target::SecretPolicy,
    time::Time,
};
use secrecy::ExposeSecret as _;

use super::*;

fn apply(state: &mut State, command: impl Into<Command>) {
    let stamped = Stamped { at: Time(1), actor: "test".into(), command: command.into() };
    state.apply(&stamped).unwrap_or_else(|refusal| panic!("{refusal}"));
}

fn place() -> Place {
    Place::Target("db".parse().unwrap())
}

fn added(keys: &Keyring, state: &State) -> AddDataKey {
    keys.new_data_key(state, "test".into()).unwrap()
}

/// Puts the next data key in place.
fn add(keys: &Keyring, state: &mut State) {
    let added = added(keys, state);
    apply(state, added);
}

/// Seals a secret and puts it where it belongs.
fn put(keys: &Keyring, state: &mut State, secret: &str) {
    let admin = Some(keys.seal(state, &secret.into(), &place().associated()).unwrap());
    let target = PutTarget {
        name: "db".parse().unwrap(),
        provider: "postgres".into(),
        params: [].into(),
        admin,
        secrets: SecretPolicy::default(),
        break_glass_roles: Vec::new(),
    };
    apply(state, target);
}

fn opened(keys: &Keyring, state: &State) -> Result<String, KeyError> {
    let sealed = state.sealed_at(&place()).unwrap();
    keys.open(state, sealed, &place().associated()).map(|secret| secret.expose_secret().to_owned())
}

fn announce(state: &mut State, keys: &Keyring) {
    apply(state, model::command::AnnounceKeys { node: NodeId(1), held: keys.held() });
}

/// Two root keys and the texts to make them again.
fn roots() -> [RootKey; 2] {
    ["11".repeat(32), "22".repeat(32)].map(|text| RootKey::from_text(&text).unwrap())
}

#[test]
fn a_secret_opens_before_during_and_after_its_key_is_replaced() {
    let keys = Keyring::new(vec![RootKey::generate()]);
    let mut state = State::default();
    assert!(matches!(keys.data_key(&state), Err(KeyError::NotYet)));
    add(&keys, &mut state);
    put(&keys, &mut state, "hunter2");
    add(&keys, &mut state);
    assert_eq!(opened(&keys, &state).unwrap(), "hunter2");
    let before = state.clone();
    let sealed = state.sealed_at(&place()).unwrap().clone();
    let resealed = keys.reseal(&state, &place(), &sealed).unwrap();
    assert_eq!((sealed.key(), resealed.key()), (Some(1), Some(2)));
    let value = Resealed { place: place(), was: sealed.digest(), sealed: resealed };
    apply(&mut state, Reseal { from: 1, values: vec![value] });
    apply(&mut state, DestroyDataKey { id: 1 });
    keys.forget(&state);
    assert_eq!(opened(&keys, &state).unwrap(), "hunter2");
    let gone = keys.open(&state, &sealed, &place().associated());
    assert!(matches!(gone, Err(KeyError::Gone(1))));
    // A call that has looked before the key went still answers with what it saw.
    assert_eq!(opened(&keys, &before).unwrap(), "hunter2");
}

#[test]
fn a_root_key_is_replaced_and_the_former_one_opens_nothing() {
    let ([old, new], [former, _]) = (roots(), roots());
    let (old_id, new_id) = (old.id(), new.id());
    let (keys, former) = (Keyring::new(vec![old, new]), Keyring::new(vec![former]));
    let mut state = State::default();
    add(&keys, &mut state);
    put(&keys, &mut state, "hunter2");
    announce(&mut state, &keys);
    let ids = |keys: &Keyring, state: &State| -> Vec<_> {
        keys.root_keys(state).iter().map(|root| root.id()).collect()
    };
    assert_eq!((ids(&keys, &state), keys.wrapping(&state).unwrap()), (vec![old_id, new_id], old_id));
    former.check(&state).unwrap();
    let rewrap = former.rewrap(&state, new_id, [NodeId(1)].into(), "test".into());
    assert!(matches!(rewrap, Err(KeyError::WrongRootKey { .. })), "it does not hold the new one");

    let rewrap = keys.rewrap(&state, new_id, [NodeId(1)].into(), "test".into()).unwrap();
    apply(&mut state, rewrap);
    assert_eq!((ids(&keys, &state), keys.wrapping(&state).unwrap()), (vec![new_id, old_id], new_id));
    let shown = keys.peer_root_keys(&state)[0].id();
    assert_eq!(shown, old_id, "peers' certificates stay under the former key until it is given up");
    assert_eq!(opened(&keys, &state).unwrap(), "hunter2");
    let refused = former.check(&state).unwrap_err();
    let told = refused.to_string();
    assert!(told.contains(&new_id.to_string()) && told.contains(&old_id.to_string()), "{told}");
    assert!(refused.remedy().contains("root_key_file"));

    let finish =
        model::command::FinishRootKey { id: old_id, nodes: [NodeId(1)].into(), reason: "test".into() };
    apply(&mut state, finish);
    assert_eq!(ids(&keys, &state), [new_id], "peers are not known by a retired key");
    assert_eq!(keys.peer_root_keys(&state)[0].id(), new_id);
}

#[test]
fn keys_that_do_not_open_what_there_is_are_not_taken() {
    let [old, new] = roots();
    let keys = Keyring::new(vec![old]);
    let mut state = State::default();
    add(&keys, &mut state);
    put(&keys, &mut state, "hunter2");
    let held = keys.held();
    assert!(matches!(keys.replace(vec![new], &state), Err(KeyError::WrongRootKey { .. })));
    assert_eq!(keys.held(), held);
    let [old, new] = roots();
    keys.replace(vec![new, old], &state).unwrap();
    assert_eq!(keys.held().len(), 2);
}

#[test]
fn a_data_key_of_an_older_cluster_is_tried_with_every_root_key() {
    let [old, new] = roots();
    let wrapped = DataKey::generate(1).wrap(&old);
    let mut state = State::default();
    apply(&mut state, model::command::InstallDataKey { id: 1, wrapped });
    let stranger = Keyring::new(vec![RootKey::generate()]);
    assert!(matches!(stranger.check(&state), Err(KeyError::WrongRootKey { wanted: None, .. })));
    let keys = Keyring::new(vec![new, old]);
    keys.check(&state).unwrap();
    put(&keys, &mut state, "hunter2");
    let next = added(&keys, &state);
    assert_eq!((next.id, next.root), (2, roots()[0].id()), "wrapped as the first one is");
    apply(&mut state, next);
    assert_eq!(opened(&keys, &state).unwrap(), "hunter2");
}

#[test]
fn an_altered_data_key_is_not_called_a_wrong_root_key() {
    let keys = Keyring::new(vec![RootKey::generate()]);
    let mut state = State::default();
    let mut altered = added(&keys, &state);
    altered.wrapped[20] ^= 1;
    apply(&mut state, altered);
    assert!(matches!(keys.check(&state), Err(KeyError::Seal(SealError::WrongRootKey(1)))));
}
