//! What answers new nodes on the client port. Whoever asks is a stranger: little is done for one before it has proven
//! something, few are heard at a time, and every refusal is audited.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::{
    Malformed,
    v1::{
        self,
        join_service_server::{JoinService, JoinServiceServer},
    },
};
use model::{
    command::{AdmitNode, Invitation},
    name::{JoinTokenName, NodeId},
    outcome::Applied,
    refusal::Code,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{BY_ROOT_KEY, NONCE_BYTES, PURPOSE, answered, asked, asked_with_token, by_token, is_address};
use crate::{
    config::Admit,
    denied::Denied,
    edge::Edge,
    gate::{ANONYMOUS, Action},
    trace::request_id,
};

/// Largest request.
const REQUEST_BYTES: usize = 4 * 1024;
/// Nodes that may ask at once, and how long it takes until there is room for one more.
const BURST: u32 = 20;
const ROOM_EVERY: Duration = Duration::from_millis(500);
/// Longest address, in bytes.
const ADDRESS_BYTES: usize = 256;

/// The join service of one node.
pub(crate) struct Service {
    edge: Arc<Edge>,
    admit: Admit,
    room: Mutex<Room>,
}

impl Service {
    /// The service, to be mounted.
    pub(crate) fn mount(edge: Arc<Edge>, admit: Admit) -> JoinServiceServer<Self> {
        JoinServiceServer::new(Self::new(edge, admit)).max_decoding_message_size(REQUEST_BYTES)
    }

    pub(crate) fn new(edge: Arc<Edge>, admit: Admit) -> Self {
        Self { edge, admit, room: Mutex::new(Room { left: BURST, since: Instant::now() }) }
    }

    async fn admit(&self, request: &v1::JoinRequest) -> Result<v1::JoinResponse, Denied> {
        let storage = check_shape(request)?;
        let key = self.key_of(request).ok_or_else(|| {
            let message = "the new node does not hold the root key of this cluster";
            Denied::edge(Code::RootKeyDiffers, message)
        })?;
        let invitation = self.invitation(request).await?;
        let actor =
            invitation.as_ref().map_or_else(|| BY_ROOT_KEY.to_owned(), |given| by_token(&given.token));
        let standing = self.edge.consensus.standing();
        let highest = standing.members.iter().map(|member| member.id).max().unwrap_or_default();
        let command = AdmitNode {
            invitation,
            storage,
            peer_address: request.peer_address.clone(),
            learner: request.learner,
            highest,
        };
        let applied = self.edge.consensus.propose(actor, command.into()).await?;
        let Applied::Admitted(node) = applied.map_err(Denied::Model)? else {
            return Err(Denied::Internal("an admission has led to something else".into()));
        };
        tracing::info!(%node, address = request.peer_address, "a new node was let in");
        Ok(self.answer(request, node, &key))
    }

    /// The key under which the new node has proven that it holds a root key of this cluster; there are two while one is
    /// replaced.
    fn key_of(&self, request: &v1::JoinRequest) -> Option<Zeroizing<[u8; 32]>> {
        let statement = asked_with_token(request);
        let roots = self.edge.keys.root_keys(&self.edge.consensus.local());
        let mut keys = roots.iter().map(|root| root.derive(PURPOSE));
        keys.find(|key| statement.is_proven(key, &request.proof))
    }

    /// What lets the node in, looked at in a state that has every token that was made before.
    async fn invitation(&self, request: &v1::JoinRequest) -> Result<Option<Invitation>, Denied> {
        if request.token.is_empty() {
            return match self.admit {
                Admit::RootKey => Ok(None),
                Admit::Token => {
                    Err(Denied::edge(Code::JoinToken, "this cluster lets nodes in with a join token alone"))
                }
            };
        }
        let token: JoinTokenName = api::parse("token", &request.token)?;
        let state = self.edge.fresh.read().await?.state;
        let kept = state.join_tokens().get(&token).map(|row| row.hash);
        // The same is done when there is none.
        let proven = asked(request).is_proven(&kept.unwrap_or_default(), &request.token_proof);
        match kept {
            Some(hash) if proven => Ok(Some(Invitation { token, hash })),
            Some(_) | None => {
                Err(Denied::edge(Code::JoinToken, format!("join token `{token}` is not valid")))
            }
        }
    }

    fn answer(&self, request: &v1::JoinRequest, node: NodeId, key: &[u8; 32]) -> v1::JoinResponse {
        let members = self.edge.consensus.standing().members;
        let peers = members.into_iter().filter(|member| member.id != node);
        let mut answer = v1::JoinResponse {
            node: node.0,
            peers: peers.map(|member| (member.id.0, member.peer_address)).collect(),
            proof: Vec::new(),
        };
        answer.proof = answered(request, &answer).proof(key);
        answer
    }

    /// Who comes when there is no room is not looked at: whatever strangers claim, all of them together are one kind of
    /// refusal in the audit log, with their number.
    fn turn_away(&self, request: &str) -> Status {
        let denied = Denied::Busy("new nodes");
        let (action, code) = (Action::Join.as_str(), denied.reason());
        if self.edge.refusals.note(ANONYMOUS, action, "", code) {
            tracing::info!(request, action, code, "refused");
        }
        denied.told(request)
    }

    fn has_room(&self) -> bool {
        self.room.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }
}

fn check_shape(request: &v1::JoinRequest) -> Result<[u8; 16], Malformed> {
    if request.nonce.len() != NONCE_BYTES {
        return Err(Malformed::new("nonce", format!("give {NONCE_BYTES} random bytes")));
    }
    if request.peer_address.len() > ADDRESS_BYTES || !is_address(&request.peer_address) {
        return Err(Malformed::new("peerAddress", "give it as `host:port`".to_owned()));
    }
    let storage = request.storage.as_slice().try_into();
    storage.map_err(|_| Malformed::new("storage", "give the 16 bytes of a UUID".to_owned()))
}

#[tonic::async_trait]
impl JoinService for Service {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let id = request_id(request.metadata());
        if !self.has_room() {
            return Err(self.turn_away(&id));
        }
        let request = request.into_inner();
        match self.admit(&request).await {
            Ok(answer) => Ok(Response::new(answer)),
            // The name and the address are only claimed.
            Err(denied) => {
                let actor = if request.token.is_empty() {
                    ANONYMOUS.to_owned()
                } else {
                    format!("{ANONYMOUS} as {}", by_token(&request.token))
                };
                let object = format!("peer/{}", request.peer_address);
                Err(self.edge.status(&id, &actor, Action::Join, &object, &denied))
            }
        }
    }
}

/// How many may still ask now.
struct Room {
    left: u32,
    since: Instant,
}

impl Room {
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_millis() / ROOM_EVERY.as_millis();
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.since = now;
        }
        let has_room = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_room
    }
}

#[cfg(test)]
mod tests {
    use model::{
        command::{Command, CreateJoinToken, EdgeRefusal},
        time::Span,
    };
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::{
        consensus::Consensus as _,
        join::{Ask, AskError, JoinToken, RootKey},
        testing::Node,
    };

    fn token(node: &Node, name: &str) -> JoinToken {
        let token = JoinToken::generate(name.parse().unwrap(), None);
        let (name, hash) = (token.name().clone(), token.hash());
        let create = CreateJoinToken { name, hash, ttl: Span::hours(1), reason: "a test".into() };
        node.alone.apply("admin", create.into()).unwrap();
        token
    }

    fn root_of(node: &Node) -> Arc<RootKey> {
        node.edge.keys.root_keys(&node.edge.consensus.local()).remove(0)
    }

    async fn refused(service: &Service, request: v1::JoinRequest) -> String {
        let status = service.join(Request::new(request)).await.unwrap_err();
        status.get_details_error_info().unwrap().reason
    }

    #[tokio::test]
    async fn a_node_is_let_in_by_a_token_and_the_root_key_and_by_nothing_less() {
        let (node, other) = (Node::start(), RootKey::generate());
        let root = root_of(&node);
        let service = Service::new(Arc::clone(&node.edge), Admit::Token);
        let token = token(&node, "rack");
        let ask =
            |root: &RootKey, token, storage| Ask::new(root, token, [storage; 16], "n:1", false).unwrap();

        let wrong = ask(&other, Some(&token), 1).request();
        assert_eq!(refused(&service, wrong).await, "root_key_differs");
        assert_eq!(refused(&service, ask(&root, None, 1).request()).await, "join_token");
        let forged = JoinToken::generate("rack".parse().unwrap(), None);
        assert_eq!(refused(&service, ask(&root, Some(&forged), 1).request()).await, "join_token");
        let unknown = JoinToken::generate("unknown".parse().unwrap(), None);
        assert_eq!(refused(&service, ask(&root, Some(&unknown), 1).request()).await, "join_token");
        let mut elsewhere = ask(&root, Some(&token), 1).request();
        elsewhere.peer_address = "m:1".into();
        assert_eq!(refused(&service, elsewhere).await, "root_key_differs", "it was changed on its way");
        let mut odd = ask(&root, Some(&token), 1).request();
        odd.storage.pop();
        assert_eq!(refused(&service, odd).await, "invalid_request");

        let good = ask(&root, Some(&token), 1);
        let answer = service.join(Request::new(good.request())).await.unwrap().into_inner();
        assert_eq!(good.take(&answer).unwrap().node, NodeId(2));
        assert_eq!(ask(&root, Some(&token), 1).take(&answer), Err(AskError::OtherCluster), "not its answer");
        assert_eq!(refused(&service, ask(&root, Some(&token), 2).request()).await, "join_token");
    }

    #[test]
    fn a_token_names_the_authority_and_another_root_key_is_told_before_anyone_is_asked() {
        let (root, other) = (RootKey::generate(), RootKey::generate());
        let named = crate::port::authority(&root).unwrap().fingerprint();
        let token = JoinToken::generate("rack".parse().unwrap(), Some(named));
        assert!(Ask::new(&root, Some(&token), [1; 16], "n:1", false).is_ok());
        let refused = Ask::new(&other, Some(&token), [1; 16], "n:1", false).err();
        assert_eq!(refused, Some(AskError::OtherRootKey));
    }

    #[tokio::test]
    async fn the_root_key_alone_lets_in_where_the_configuration_says_so() {
        let node = Node::start();
        let root = root_of(&node);
        let service = Service::new(Arc::clone(&node.edge), Admit::RootKey);
        let ask = Ask::new(&root, None, [1; 16], "n:1", false).unwrap();
        for _ in 0..2 {
            let answer = service.join(Request::new(ask.request())).await.unwrap().into_inner();
            assert_eq!(ask.take(&answer).unwrap().node, NodeId(2), "the same storage, the same number");
        }
        let stranger = Ask::new(&RootKey::generate(), None, [2; 16], "n:1", false).unwrap();
        assert_eq!(refused(&service, stranger.request()).await, "root_key_differs");
    }

    #[tokio::test]
    async fn a_crowd_that_is_turned_away_is_counted_in_one_record() {
        const CROWD: u32 = 200;
        let node = Node::start();
        let service = Service::new(Arc::clone(&node.edge), Admit::Token);
        let mut turned_away = 0;
        for stranger in 0..CROWD {
            let request = v1::JoinRequest {
                peer_address: format!("n{stranger}:1"),
                token: format!("t{stranger}"),
                ..Default::default()
            };
            turned_away += u32::from(refused(&service, request).await == "overloaded");
        }
        assert!(turned_away > 0 && turned_away <= CROWD - BURST, "{turned_away}");
        let mut changes = node.alone.watch();
        let mut records = Vec::new();
        while records.iter().map(|record: &EdgeRefusal| record.count).sum::<u32>() < turned_away {
            changes.changed().await.unwrap();
            let proposed = node.alone.proposed().into_iter();
            let refusals = proposed.filter_map(|(_, command)| {
                if let Command::RecordRefusals(body) = command { Some(body.refusals) } else { None }
            });
            records = refusals.flatten().filter(|record| record.code == "overloaded").collect();
        }
        // A slow run is committed a few times.
        assert!(records.len() < 10, "{records:?}");
        for record in &records {
            let told = (record.actor.as_str(), record.action.as_str(), record.object.as_str());
            assert_eq!(told, (ANONYMOUS, "node.admit", ""));
        }
        assert_eq!(records.iter().map(|record| record.count).sum::<u32>(), turned_away);
    }

    #[tokio::test]
    async fn a_crowd_of_strangers_waits() {
        let start = Instant::now();
        let mut room = Room { left: BURST, since: start };
        assert_eq!((0..100).filter(|_| room.take(start)).count(), 20);
        assert!(room.take(start + ROOM_EVERY));
        assert!(!room.take(start + ROOM_EVERY));
        let later = start + ROOM_EVERY * 1_000;
        assert_eq!((0..100).filter(|_| room.take(later)).count(), 20, "quiet times are not saved up");
    }
}
