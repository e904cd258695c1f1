//! What operators, approvers and auditors ask: one method per call of `AdminService`.

use tonic::Streaming;

use crate::{
    Client, Error,
    connection::Effect,
    v1::{self, admin_service_client::AdminServiceClient, join_service_client::JoinServiceClient},
};

macro_rules! calls {
    ($($(#[$doc:meta])* $effect:ident $name:ident: $request:ident -> $response:ty;)*) => {
        impl Client {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// [`Error`] says whether it was refused, never sent, or may have been carried out.
            pub async fn $name(&self, request: v1::$request) -> Result<$response, Error> {
                self.call(Effect::$effect, request, |channel, request| async move {
                    AdminServiceClient::new(channel).$name(request).await
                })
                .await
            }
        )*}
    };
}

calls! {
    /// Declares resources, or says what declaring them would change.
    Idempotent apply: ApplyRequest -> v1::ApplyResponse;
    /// One resource.
    Idempotent get_resource: GetResourceRequest -> v1::GetResourceResponse;
    /// A page of the resources of one kind.
    Idempotent list_resources: ListResourcesRequest -> v1::ListResourcesResponse;
    /// Removes a resource that nothing depends on.
    Once remove_resource: RemoveResourceRequest -> v1::RemoveResourceResponse;

    /// Stops a schedule from starting rotations.
    Idempotent pause_schedule: PauseScheduleRequest -> v1::PauseScheduleResponse;
    /// Lets a paused schedule go on.
    Idempotent resume_schedule: ResumeScheduleRequest -> v1::ResumeScheduleResponse;
    /// Starts a rotation now.
    Once trigger_schedule: TriggerScheduleRequest -> v1::TriggerScheduleResponse;
    /// The next fire times of a timing.
    Idempotent preview_schedule: PreviewScheduleRequest -> v1::PreviewScheduleResponse;

    /// Rotations, newest first.
    Idempotent list_rotations: ListRotationsRequest -> v1::ListRotationsResponse;
    /// One rotation.
    Idempotent get_rotation: GetRotationRequest -> v1::GetRotationResponse;
    /// Rolls a rotation back to the old version.
    Once abort_rotation: AbortRotationRequest -> v1::AbortRotationResponse;
    /// Lets a quarantined rotation go on.
    Once retry_rotation: RetryRotationRequest -> v1::RetryRotationResponse;

    /// States that something is no longer valid. OK means committed by a quorum.
    Once create_revocation: CreateRevocationRequest -> v1::CreateRevocationResponse;
    /// Revocations, newest first.
    Idempotent list_revocations: ListRevocationsRequest -> v1::ListRevocationsResponse;
    /// One revocation, who has acted on it, and what was seen at the target.
    Idempotent get_revocation: GetRevocationRequest -> v1::GetRevocationResponse;
    /// Lifts a hold.
    Once lift_revocation: LiftRevocationRequest -> v1::LiftRevocationResponse;
    /// Excuses a consumer from one event.
    Idempotent waive_receipt: WaiveReceiptRequest -> v1::WaiveReceiptResponse;

    /// Asks for break-glass access.
    Once request_grant: RequestGrantRequest -> v1::RequestGrantResponse;
    /// Approves someone else's request.
    Once approve_grant: ApproveGrantRequest -> v1::ApproveGrantResponse;
    /// Denies a request.
    Once deny_grant: DenyGrantRequest -> v1::DenyGrantResponse;
    /// Ends a grant before its time.
    Once end_grant: EndGrantRequest -> v1::EndGrantResponse;
    /// Shows the secret: once, to the requester.
    Once reveal_grant: RevealGrantRequest -> v1::RevealGrantResponse;
    /// Records what someone else found when looking at an ended grant.
    Once review_grant: ReviewGrantRequest -> v1::ReviewGrantResponse;
    /// One grant.
    Idempotent get_grant: GetGrantRequest -> v1::GetGrantResponse;
    /// Grants, newest first.
    Idempotent list_grants: ListGrantsRequest -> v1::ListGrantsResponse;

    /// Issues a token; it is shown this once.
    Once issue_token: IssueTokenRequest -> v1::IssueTokenResponse;
    /// All tokens, without their secrets.
    Idempotent list_tokens: ListTokensRequest -> v1::ListTokensResponse;
    /// Makes a token useless.
    Once revoke_token: RevokeTokenRequest -> v1::RevokeTokenResponse;

    /// Streams audit records; with `follow` it goes on as they are committed.
    Idempotent watch_audit: WatchAuditRequest -> Streaming<v1::WatchAuditResponse>;
    /// Checks the chain of audit records.
    Idempotent verify_audit: VerifyAuditRequest -> v1::VerifyAuditResponse;

    /// The current value of a credential, from the store `builtin`.
    Idempotent get_secret: GetSecretRequest -> v1::GetSecretResponse;

    /// What needs attention.
    Idempotent get_status: GetStatusRequest -> v1::GetStatusResponse;
    /// The nodes and how far they are.
    Idempotent get_cluster: GetClusterRequest -> v1::GetClusterResponse;
    /// What the node that is asked knows of itself, file by file.
    Idempotent collect_debug: CollectDebugRequest -> Streaming<v1::CollectDebugResponse>;
    /// Hands the lead over to a voter, and answers when it leads.
    Idempotent transfer_leader: TransferLeaderRequest -> v1::TransferLeaderResponse;
    /// Lets a node come back as a learner that does not vote and waits for an operator to say so.
    Once permit_rejoin: PermitRejoinRequest -> v1::PermitRejoinResponse;

    /// Issues a certificate of the client port for the key of a request.
    Once issue_certificate: IssueCertificateRequest -> v1::IssueCertificateResponse;
    /// Certificates of clients, and the nodes that are revoked.
    Idempotent list_certificates: ListCertificatesRequest -> v1::ListCertificatesResponse;
    /// Shuts out a certificate, or a node, for good.
    Idempotent revoke_certificate: RevokeCertificateRequest -> v1::RevokeCertificateResponse;
    /// Data keys, root keys and who holds them.
    Idempotent get_key_status: GetKeyStatusRequest -> v1::GetKeyStatusResponse;
    /// Puts a new data key in place; what the old one has sealed is sealed anew.
    Once rotate_data_key: RotateDataKeyRequest -> v1::RotateDataKeyResponse;
    /// Wraps the data keys by the next root key.
    Once rotate_root_key: RotateRootKeyRequest -> v1::RotateRootKeyResponse;
    /// Ends the replacement of a root key.
    Once finish_root_key: FinishRootKeyRequest -> v1::FinishRootKeyResponse;
    /// Makes a token that lets one new node in; it is shown this once.
    Once create_join_token: CreateJoinTokenRequest -> v1::CreateJoinTokenResponse;
    /// All join tokens, without their secrets.
    Idempotent list_join_tokens: ListJoinTokensRequest -> v1::ListJoinTokensResponse;
    /// Makes a join token useless.
    Once revoke_join_token: RevokeJoinTokenRequest -> v1::RevokeJoinTokenResponse;
    /// Lets a learner vote, and answers when it does.
    Idempotent promote_node: PromoteNodeRequest -> v1::PromoteNodeResponse;
    /// Turns a node out for good, and answers when the membership without it is committed.
    Idempotent remove_node: RemoveNodeRequest -> v1::RemoveNodeResponse;
    /// Streams a backup of the state, as the file is to be written.
    Once save_snapshot: SaveSnapshotRequest -> Streaming<v1::SaveSnapshotResponse>;
    /// Lets everything fire again after the state was put back from a backup.
    Once confirm_restore: ConfirmRestoreRequest -> v1::ConfirmRestoreResponse;
    /// Streams entries of the ledger; with `follow` it goes on as they are committed.
    Idempotent watch_ledger: WatchLedgerRequest -> Streaming<v1::WatchLedgerResponse>;
    /// The end of the ledger.
    Idempotent get_ledger: GetLedgerRequest -> v1::GetLedgerResponse;
}

impl Client {
    /// Asks for a new node to be let in; the same storage is given the same id again.
    ///
    /// # Errors
    /// [`Error`] says whether it was refused, never sent, or may have been carried out.
    pub async fn join(&self, request: v1::JoinRequest) -> Result<v1::JoinResponse, Error> {
        self.call(Effect::Idempotent, request, |channel, request| async move {
            JoinServiceClient::new(channel).join(request).await
        })
        .await
    }
}
