// SPDX-License-Identifier: Apache-2.0
//! Do the authorities we trust vouch for a client's certificate, and have they revoked it? RFC 5280, sections 6.1 and 6.3.

use crate::upstream::certificate::{CertificateFacts, next_update_s};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::fmt;
use std::time::Duration;
use webpki::{
    ALL_VERIFICATION_ALGS, CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};

/// A revocation list that was read once; whether its issuer signed it is asked with each chain.
pub struct RevocationList {
    list: CertRevocationList<'static>,
    /// Seconds since the epoch; it counts until then.
    pub next_update_s: Option<i64>,
}

impl RevocationList {
    /// Reads DER.
    ///
    /// # Errors
    /// What is wrong with it: indirect lists and deltas are not for us.
    pub fn new(der: &[u8]) -> Result<Self, Refused> {
        Ok(RevocationList { list: CertRevocationList::Owned(OwnedCertRevocationList::from_der(der)?), next_update_s: next_update_s(der) })
    }

    /// The name (DER, the content of its sequence) of who issued it.
    pub fn issuer(&self) -> &[u8] {
        self.list.issuer()
    }
}

/// How much must be known of the revocation of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A certificate without a list passes; of an old list what it revokes counts.
    Nothing,
    /// The client's own certificate must be on good terms with a list.
    OfLeaf,
    /// All below the anchor must be.
    OfAll,
}

/// Whom a chain led to.
#[derive(Debug)]
pub struct Trusted {
    /// The client's certificate, then each one's issuer, without the anchor (DER).
    pub path: Vec<Vec<u8>>,
    /// Which of the anchors vouches for the last of them.
    pub anchor: usize,
}

/// Why a chain is not trusted.
#[derive(Debug)]
pub struct Refused(Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused(error)
    }
}

impl Refused {
    /// One word for programs: `revoked`, `revocation_unknown`, `expired`, …; `malformed` for all that cannot be read.
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            Error::CertRevoked => "revoked",
            Error::UnknownRevocationStatus
            | Error::CrlExpired { .. }
            | Error::InvalidCrlSignatureForPublicKey
            | Error::IssuerNotCrlSigner => "revocation_unknown",
            Error::CertExpired { .. } => "expired",
            Error::CertNotValidYet { .. } => "not_yet_valid",
            Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => "unknown_issuer",
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => "wrong_usage",
            Error::NameConstraintViolation => "name_not_permitted",
            Error::PathLenConstraintViolated
            | Error::MaximumPathDepthExceeded
            | Error::MaximumPathBuildCallsExceeded
            | Error::MaximumSignatureChecksExceeded
            | Error::MaximumNameConstraintComparisonsExceeded => "too_long",
            Error::CaUsedAsEndEntity | Error::EndEntityUsedAsCa => "wrong_role",
            Error::UnsupportedSignatureAlgorithmContext(_) | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                "weak_or_unknown_algorithm"
            }
            _ => "malformed",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind(), self.0)
    }
}

/// Builds a path from the first of `chain` to one of `anchors` by the others and `helpers`, for the use as a client's certificate.
///
/// Args are DER. Anchors that are not good at `at_s` (seconds since the epoch) vouch for nobody. At most `most_intermediates` stand
/// between the two; webpki bounds them by 6, and the work by budgets.
///
/// # Errors
/// What is wrong with the path that got farthest.
pub fn verify(
    chain: &[&[u8]],
    helpers: &[&[u8]],
    anchors: &[&[u8]],
    lists: &[&RevocationList],
    wanted: Wanted,
    at_s: u64,
    most_intermediates: usize,
) -> Result<Trusted, Refused> {
    let (leaf, others) = chain.split_first().ok_or(Error::BadDer)?;
    let leaf = CertificateDer::from(*leaf);
    let leaf = EndEntityCert::try_from(&leaf)?;
    let others: Vec<CertificateDer<'_>> = others.iter().chain(helpers).map(|&der| CertificateDer::from(der)).collect();
    let anchor_ders: Vec<CertificateDer<'_>> = anchors.iter().map(|&der| CertificateDer::from(der)).collect();
    let mut trusted: Vec<TrustAnchor<'_>> = Vec::with_capacity(anchors.len());
    let mut places = Vec::with_capacity(anchors.len());
    for (place, der) in anchor_ders.iter().enumerate() {
        // webpki looks at no date of an anchor.
        let is_good = CertificateFacts::of(der).is_some_and(|facts| {
            let at_s = i64::try_from(at_s).unwrap_or(i64::MAX);
            facts.not_before_s.is_some_and(|from| from <= at_s) && facts.not_after_s.is_some_and(|until| at_s <= until)
        });
        if is_good && let Ok(anchor) = anchor_from_trusted_cert(der) {
            trusted.push(anchor);
            places.push(place);
        }
    }
    let lists: Vec<&CertRevocationList<'_>> = lists.iter().map(|list| &list.list).collect();
    let revocation = if lists.is_empty() && wanted == Wanted::Nothing {
        None
    } else if lists.is_empty() {
        return Err(Error::UnknownRevocationStatus.into());
    } else {
        let depth = if wanted == Wanted::OfLeaf { RevocationCheckDepth::EndEntity } else { RevocationCheckDepth::Chain };
        let policy = if wanted == Wanted::Nothing { UnknownStatusPolicy::Allow } else { UnknownStatusPolicy::Deny };
        let builder = RevocationOptionsBuilder::new(&lists).map_err(|_| Error::UnknownRevocationStatus)?;
        // What was revoked stays so, whatever became of the list.
        let expiration = if wanted == Wanted::Nothing { ExpirationPolicy::Ignore } else { ExpirationPolicy::Enforce };
        Some(builder.with_depth(depth).with_status_policy(policy).with_expiration_policy(expiration).build())
    };
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at_s));
    let is_short = |path: &webpki::VerifiedPath<'_>| {
        if path.intermediate_certificates().count() > most_intermediates { Err(Error::MaximumPathDepthExceeded) } else { Ok(()) }
    };
    let usage = KeyUsage::client_auth();
    let path = leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &trusted, &others, at, usage, revocation, Some(&is_short))?;
    let place = trusted.iter().position(|anchor| std::ptr::eq(anchor, path.anchor())).ok_or(Error::UnknownIssuer)?;
    let mut ders = vec![leaf.der().to_vec()];
    ders.extend(path.intermediate_certificates().map(|certificate| certificate.der().to_vec()));
    Ok(Trusted { path: ders, anchor: places[place] })
}
