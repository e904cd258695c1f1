use super::*;

fn load(text: &str) -> Result<Config, ConfigError> {
    load_in(text, &[])
}

fn load_in(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    fs::write(&path, text).unwrap();
    let find = |wanted: &str| environment.iter().find(|(name, _)| *name == wanted);
    Config::load_in(&path, |variable| find(variable).map(|(_, value)| (*value).to_owned()))
}

const GOOD: &str = r#"
    node = 1
    data = "data"
    root_key_file = "root.key"
    [listen]
    client = "127.0.0.1:7800"
    peer = "127.0.0.1:7801"
    [peers]
    1 = "127.0.0.1:7801"
"#;

#[test]
fn paths_are_taken_from_the_folder_of_the_file() {
    let config = load(GOOD).unwrap();
    assert!(config.data.is_absolute() && config.data.ends_with("data"));
    assert_eq!(config.peer_addresses().unwrap().len(), 1);
}

#[test]
fn one_file_serves_all_nodes_where_the_environment_says_which_this_is() {
    let shared = GOOD.replace("node = 1", "");
    assert!(matches!(load(&shared), Err(ConfigError::NoNumber)));
    let own = [("REVOLVE_NODE", "1"), ("REVOLVE_DATA", "/srv/r"), ("REVOLVE_ADVERTISE", "r-1.r:7800")];
    let config = load_in(&shared, &own).unwrap();
    assert_eq!((config.node, config.data.to_str().unwrap()), (1, "/srv/r"));
    assert_eq!(config.listen.advertise.as_deref(), Some("r-1.r:7800"));
    let refused = |name, value| load_in(GOOD, &[(name, value)]).unwrap_err().to_string();
    assert_eq!(refused("REVOLVE_NODE", "r-1"), "`REVOLVE_NODE` is not a node number such as `1`");
    assert_eq!(refused("REVOLVE_NODE", "2"), "node 2 is not listed under `peers`");
    assert_eq!(refused("REVOLVE_DATA", "srv"), "`REVOLVE_DATA` is not an absolute path");
}

#[test]
fn one_file_serves_nodes_that_form_the_cluster_and_those_that_join_it() {
    let shared = format!("{}\n[join]\nservers = [\"h:1\"]", GOOD.replace("node = 1", ""));
    let first = load_in(&shared, &[("REVOLVE_NODE", "1")]).unwrap();
    assert_eq!((first.node, first.peers.len()), (1, 1));
    let later = [("REVOLVE_NODE", "4"), ("REVOLVE_ADVERTISE_PEER", "r-4.r:7801")];
    let later = load_in(&shared, &later).unwrap();
    assert_eq!((later.node, later.peers.len()), (0, 0));
    assert_eq!(later.listen.advertise_peer.as_deref(), Some("r-4.r:7801"));
    assert!(matches!(load(&shared.replace("data =", "node = 4\ndata =")), Err(ConfigError::NotAPeer(4))));
}

#[test]
fn plaintext_beyond_loopback_is_refused() {
    let open = GOOD.replace("client = \"127.0.0.1:7800\"", "client = \"0.0.0.0:7800\"");
    assert_eq!(load(&open).unwrap().listen.client_tls, ClientTls::Mutual, "unless something else is said");
    let plain = |text: &str| text.replace("[listen]", "[listen]\nclient_tls = \"off\"");
    assert!(matches!(load(&plain(&open)), Err(ConfigError::PlaintextBeyondLoopback(_))));
    load(&plain(GOOD)).unwrap();
    let files = "[tls]\ncert_file = \"c\"\nkey_file = \"k\"";
    assert!(matches!(load(&plain(&format!("{GOOD}\n{files}"))), Err(ConfigError::UnusedCertificate)));
}

#[test]
fn a_lifetime_that_makes_no_sense_is_refused() {
    for wrong in ["0.0", "-1.0", "1e9", "nan"] {
        let text = format!("{GOOD}\n[certificates]\nlifetime_hours = {wrong}");
        assert!(matches!(load(&text), Err(ConfigError::Lifetime(_))), "{wrong}");
    }
    let short = load(&format!("{GOOD}\n[certificates]\nlifetime_hours = 0.001")).unwrap();
    assert_eq!(short.certificates.lifetime(), Duration::from_millis(3_600));
}

#[test]
fn a_node_without_a_number_must_know_whom_to_ask() {
    let joins = GOOD
        .replace("node = 1", "")
        .replace("[peers]\n    1 = \"127.0.0.1:7801\"", "[join]\n        servers = [\"h:1\"]");
    let config = load(&joins).unwrap();
    assert_eq!((config.node, config.join.admit), (0, Admit::Token));
    assert!(matches!(load(&GOOD.replace("node = 1", "")), Err(ConfigError::NoNumber)));
    let nowhere = joins.replace("[\"h:1\"]", "[]");
    assert!(matches!(load(&nowhere), Err(ConfigError::NoNumber)));
}

#[test]
fn a_node_outside_its_peers_and_an_unknown_field_are_refused() {
    assert!(matches!(load(&GOOD.replace("node = 1", "node = 2")), Err(ConfigError::NotAPeer(2))));
    let unknown = load(&format!("{GOOD}\n[limit]\nx = 1")).unwrap_err().to_string();
    assert!(unknown.contains("unknown field `limit`"), "{unknown}");
}
