//! What operators, approvers and auditors ask: one file per noun, each a plain function from request to answer.

mod apply;
mod audit;
mod backup;
mod certificate;
mod cluster;
mod debug;
mod grant;
mod join;
mod key;
mod ledger;
mod page;
mod resource;
mod revocation;
mod rotation;
mod schedule;
mod secret;
pub(crate) mod status;
mod token;

use std::sync::Arc;

use api::v1;
use tonic::{Request, Response, Status};
use v1::admin_service_server::{AdminService, AdminServiceServer};

use crate::{
    edge::Edge,
    gate::Action,
    stream::{self, Messages},
};

/// Largest request: a file of declarations.
const REQUEST_BYTES: usize = 4 << 20;
/// Largest answer; lists end well before it and go on with the next page.
const ANSWER_BYTES: usize = 4 << 20;

/// The admin service of one node.
pub struct Service {
    edge: Arc<Edge>,
}

impl Service {
    pub(crate) const fn new(edge: Arc<Edge>) -> Self {
        Self { edge }
    }

    /// The service, to be mounted.
    #[must_use]
    pub fn mount(edge: Arc<Edge>) -> AdminServiceServer<Self> {
        AdminServiceServer::new(Self::new(edge))
            .max_decoding_message_size(REQUEST_BYTES)
            .max_encoding_message_size(ANSWER_BYTES)
    }
}

macro_rules! service {
    ($($verb:ident($request:ident) -> $answer:ident = $action:ident $function:path;)*) => {
        #[tonic::async_trait]
        impl AdminService for Service {
            type WatchAuditStream = Messages<v1::WatchAuditResponse>;
            type CollectDebugStream = Messages<v1::CollectDebugResponse>;

            async fn collect_debug(
                &self,
                request: Request<v1::CollectDebugRequest>,
            ) -> Result<Response<Self::CollectDebugStream>, Status> {
                let call = self.edge.admit(request.metadata(), Action::CollectDebug).await?;
                stream::open(call, |call, sender| debug::collect(call, request.into_inner(), sender))
            }
            type WatchLedgerStream = Messages<v1::WatchLedgerResponse>;
            type SaveSnapshotStream = Messages<v1::SaveSnapshotResponse>;

            $(async fn $verb(&self, request: Request<v1::$request>) -> Result<Response<v1::$answer>, Status> {
                let call = self.edge.admit(request.metadata(), Action::$action).await?;
                call.answer($function(&call, request.into_inner()).await)
            })*

            async fn watch_audit(
                &self,
                request: Request<v1::WatchAuditRequest>,
            ) -> Result<Response<Self::WatchAuditStream>, Status> {
                let call = self.edge.admit(request.metadata(), Action::Audit).await?;
                stream::open(call, |call, sender| audit::watch(call, request.into_inner(), sender))
            }

            async fn watch_ledger(
                &self,
                request: Request<v1::WatchLedgerRequest>,
            ) -> Result<Response<Self::WatchLedgerStream>, Status> {
                let call = self.edge.admit(request.metadata(), Action::ReadLedger).await?;
                stream::open(call, |call, sender| ledger::watch(call, request.into_inner(), sender))
            }

            async fn save_snapshot(
                &self,
                request: Request<v1::SaveSnapshotRequest>,
            ) -> Result<Response<Self::SaveSnapshotStream>, Status> {
                let call = self.edge.admit(request.metadata(), Action::Backup).await?;
                stream::open(call, |call, sender| backup::save(call, request.into_inner(), sender))
            }
        }
    };
}

service! {
    apply(ApplyRequest) -> ApplyResponse = Apply apply::apply;
    get_resource(GetResourceRequest) -> GetResourceResponse = Look resource::get;
    list_resources(ListResourcesRequest) -> ListResourcesResponse = Look resource::list;
    remove_resource(RemoveResourceRequest) -> RemoveResourceResponse = Remove resource::remove;

    pause_schedule(PauseScheduleRequest) -> PauseScheduleResponse = Schedule schedule::pause;
    resume_schedule(ResumeScheduleRequest) -> ResumeScheduleResponse = Schedule schedule::resume;
    trigger_schedule(TriggerScheduleRequest) -> TriggerScheduleResponse = Schedule schedule::trigger;
    preview_schedule(PreviewScheduleRequest) -> PreviewScheduleResponse = Look schedule::preview;

    list_rotations(ListRotationsRequest) -> ListRotationsResponse = Look rotation::list;
    get_rotation(GetRotationRequest) -> GetRotationResponse = Look rotation::get;
    abort_rotation(AbortRotationRequest) -> AbortRotationResponse = Rotation rotation::abort;
    retry_rotation(RetryRotationRequest) -> RetryRotationResponse = Rotation rotation::retry;

    create_revocation(CreateRevocationRequest) -> CreateRevocationResponse = Revoke revocation::create;
    list_revocations(ListRevocationsRequest) -> ListRevocationsResponse = Look revocation::list;
    get_revocation(GetRevocationRequest) -> GetRevocationResponse = Look revocation::get;
    lift_revocation(LiftRevocationRequest) -> LiftRevocationResponse = Revoke revocation::lift;
    waive_receipt(WaiveReceiptRequest) -> WaiveReceiptResponse = Waive revocation::waive;

    request_grant(RequestGrantRequest) -> RequestGrantResponse = RequestGrant grant::request;
    approve_grant(ApproveGrantRequest) -> ApproveGrantResponse = DecideGrant grant::approve;
    deny_grant(DenyGrantRequest) -> DenyGrantResponse = DecideGrant grant::deny;
    end_grant(EndGrantRequest) -> EndGrantResponse = EndGrant grant::end;
    reveal_grant(RevealGrantRequest) -> RevealGrantResponse = RequestGrant grant::reveal;
    review_grant(ReviewGrantRequest) -> ReviewGrantResponse = DecideGrant grant::review;
    get_grant(GetGrantRequest) -> GetGrantResponse = Look grant::get;
    list_grants(ListGrantsRequest) -> ListGrantsResponse = Look grant::list;

    issue_token(IssueTokenRequest) -> IssueTokenResponse = Tokens token::issue;
    list_tokens(ListTokensRequest) -> ListTokensResponse = ListTokens token::list;
    revoke_token(RevokeTokenRequest) -> RevokeTokenResponse = Tokens token::revoke;

    verify_audit(VerifyAuditRequest) -> VerifyAuditResponse = Audit audit::verify;
    get_secret(GetSecretRequest) -> GetSecretResponse = ReadSecret secret::get;
    get_status(GetStatusRequest) -> GetStatusResponse = Look status::get;
    get_cluster(GetClusterRequest) -> GetClusterResponse = Look cluster::get;
    transfer_leader(TransferLeaderRequest) -> TransferLeaderResponse = ChangeCluster cluster::transfer_leader;
    permit_rejoin(PermitRejoinRequest) -> PermitRejoinResponse = ChangeCluster cluster::permit_rejoin;

    issue_certificate(IssueCertificateRequest) -> IssueCertificateResponse = Certificates certificate::issue;
    list_certificates(ListCertificatesRequest) -> ListCertificatesResponse = ListCertificates certificate::list;
    revoke_certificate(RevokeCertificateRequest) -> RevokeCertificateResponse = Certificates certificate::revoke;
    get_key_status(GetKeyStatusRequest) -> GetKeyStatusResponse = Look key::status;
    rotate_data_key(RotateDataKeyRequest) -> RotateDataKeyResponse = ManageKeys key::rotate_data;
    rotate_root_key(RotateRootKeyRequest) -> RotateRootKeyResponse = ManageKeys key::rotate_root;
    finish_root_key(FinishRootKeyRequest) -> FinishRootKeyResponse = ManageKeys key::finish_root;
    create_join_token(CreateJoinTokenRequest) -> CreateJoinTokenResponse = ChangeCluster join::create;
    list_join_tokens(ListJoinTokensRequest) -> ListJoinTokensResponse = ListTokens join::list;
    revoke_join_token(RevokeJoinTokenRequest) -> RevokeJoinTokenResponse = ChangeCluster join::revoke;
    promote_node(PromoteNodeRequest) -> PromoteNodeResponse = ChangeCluster cluster::promote;
    remove_node(RemoveNodeRequest) -> RemoveNodeResponse = ChangeCluster cluster::remove;
    get_ledger(GetLedgerRequest) -> GetLedgerResponse = ReadLedger ledger::head;
    confirm_restore(ConfirmRestoreRequest) -> ConfirmRestoreResponse = Backup backup::confirm;
}

#[cfg(test)]
mod tests;
