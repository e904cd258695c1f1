//! Certificates of clients, and nodes that are let in no more.

use crate::{
    State, caps,
    certificate::{Certificate, Party, RevokedAs, RevokedNode, Serial},
    command::{RecordCertificate, RevokeCertificate},
    event::ReasonCode,
    outcome::{Applied, Outcome},
    refusal::{Code, Refusal},
};

use super::{check, refuse};

impl State {
    pub(super) fn record_certificate(&mut self, command: &RecordCertificate) -> Outcome {
        if command.expires <= self.now() {
            return refuse(Code::OutOfRange, "the certificate would have ended already");
        }
        if self.certificates.contains(&command.serial) {
            return refuse(
                Code::AlreadyExists,
                format!("there is a certificate `{}` already", command.serial),
            );
        }
        self.make_room_for_certificate()?;
        let row = Certificate {
            serial: command.serial.clone(),
            name: Some(command.name.clone()),
            recorded: self.now(),
            expires: Some(command.expires),
            revoked: None,
        };
        self.certificates.put(command.serial.clone(), row);
        Ok(Applied::Changed)
    }

    pub(super) fn revoke_certificate(&mut self, command: &RevokeCertificate) -> Outcome {
        check::text("reason", &command.reason, Code::TextRequired)?;
        if matches!(command.code, ReasonCode::Hold | ReasonCode::BreakGlassEnded) {
            let message = format!("a certificate is not revoked for `{}`", command.code.as_str());
            return refuse(Code::InvalidRequest, message);
        }
        let revoked = RevokedAs { at: self.now(), code: command.code, reason: command.reason.clone() };
        match &command.party {
            Party::Certificate(serial) => self.revoke_serial(serial, revoked),
            Party::Node(node) => {
                if !self.nodes.contains(node) {
                    return refuse(Code::UnknownNode, format!("there is no `{node}`"));
                }
                if self.revoked_nodes.contains(node) {
                    return Ok(Applied::Unchanged);
                }
                self.revoked_nodes.put(*node, RevokedNode { node: *node, revoked });
                Ok(Applied::Changed)
            }
        }
    }

    /// One that was never recorded can be revoked as well: the holder of the root key issues without the cluster.
    fn revoke_serial(&mut self, serial: &Serial, revoked: RevokedAs) -> Outcome {
        match self.certificates.get(serial) {
            Some(row) if row.revoked.is_some() => return Ok(Applied::Unchanged),
            Some(_) => {
                self.certificates.update(serial, |row| row.revoked = Some(revoked));
            }
            None => {
                self.make_room_for_certificate()?;
                let row = Certificate {
                    serial: serial.clone(),
                    name: None,
                    recorded: self.now(),
                    expires: None,
                    revoked: Some(revoked),
                };
                self.certificates.put(serial.clone(), row);
            }
        }
        Ok(Applied::Changed)
    }

    /// When there are too many, those whose time was over long ago are forgotten: they are refused for that, whatever else
    /// they were.
    fn make_room_for_certificate(&mut self) -> Result<(), Refusal> {
        if self.certificates.len() < caps::CERTIFICATES {
            return Ok(());
        }
        let now = self.now();
        let is_over = |row: &&Certificate| {
            row.expires.is_some_and(|end| end.plus(caps::CERTIFICATE_KEPT_AFTER_END) < now)
        };
        let over: Vec<Serial> =
            self.certificates.values().filter(is_over).map(|row| row.serial.clone()).collect();
        for serial in &over {
            self.certificates.remove(serial);
        }
        if self.certificates.len() >= caps::CERTIFICATES {
            let message = format!("there are {} certificates, and no more are kept", caps::CERTIFICATES);
            return refuse(Code::TooLong, message);
        }
        Ok(())
    }
}
