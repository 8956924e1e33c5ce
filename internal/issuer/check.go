package issuer

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
)

func invalid(code, format string, args ...any) *problem.Error {
	return problem.Newf(problem.Invalid, code, format, args...)
}

// Check says whether an issuer may be trusted as it stands. own is this server's
// issuer: it is never taken at its own word. Errors are problem.Invalid.
func Check(s Spec, own string, ladder assurance.Ladder) error {
	for _, step := range []func(Spec) error{checkKeys, checkProfiles, checkReach} {
		if err := step(s); err != nil {
			return err
		}
	}
	u, err := url.Parse(s.Issuer)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(s.Issuer, "?# ") || !utf8.ValidString(s.Issuer):
		return invalid("issuer_invalid", "%.200q cannot be an issuer: it is an https URL without user, query and fragment (RFC 8414 section 2).", s.Issuer)
	case s.Issuer == own:
		return invalid("issuer_own", "This server does not take its own assertions.")
	case s.MaxLifetime < 0 || s.MaxLifetime > 3600:
		return invalid("lifetime_invalid", "An assertion may be good for an hour at most.")
	}
	for theirs, ours := range s.ACR {
		if theirs == "" || ladder.RungOf(ours) == assurance.None {
			return invalid("acr_invalid", "The acr %.80q is mapped to %.80q, which is not on the ladder: %s are.", theirs, ours, strings.Join(ladder.Values(), ", "))
		}
	}
	return nil
}

func checkKeys(s Spec) error {
	switch {
	case (len(s.JWKS) > 0) == (s.JWKSURI != ""):
		return invalid("jwks_invalid", "An issuer's keys are in jwks or at jwks_uri: say one.")
	case len(s.JWKS) > 0:
		if err := client.CheckJWKS(s.JWKS); err != nil {
			return err
		}
	default:
		if err := client.CheckJWKSURI(s.JWKSURI); err != nil {
			return err
		}
	}
	for i, a := range s.Algorithms {
		if !slices.Contains(jose.GrantAlgorithms, a) || slices.Contains(s.Algorithms[:i], a) {
			return invalid("algorithms_invalid", "%.40q is no algorithm for assertions, or named twice: %s are.", a, strings.Join(jose.GrantAlgorithms, ", "))
		}
	}
	return nil
}

func checkProfiles(s Spec) error {
	if len(s.Profiles) == 0 {
		return invalid("profiles_invalid", "Say what the issuer is trusted for: %s, %s.", JWTBearer, IDJAG)
	}
	for i, p := range s.Profiles {
		if p != JWTBearer && p != IDJAG || slices.Contains(s.Profiles[:i], p) {
			return invalid("profiles_invalid", "%.40q is no profile, or named twice: %s, %s are.", p, JWTBearer, IDJAG)
		}
	}
	switch {
	case s.Replay != "" && s.Replay != Once && s.Replay != SameClient:
		return invalid("replay_invalid", "replay is %s or %s.", Once, SameClient)
	case s.Replay == SameClient && !slices.Contains(s.Profiles, IDJAG):
		return invalid("replay_invalid", "Only an ID-JAG, which names its client, may be presented again.")
	}
	return nil
}

// checkReach wants limits that somebody wrote: nothing is "any".
func checkReach(s Spec) error {
	if len(s.Resources) == 0 || len(s.Scopes) == 0 {
		return invalid("reach_invalid", "Say which resources and scopes the issuer's assertions may be used for.")
	}
	for i, sc := range s.Scopes {
		if sc == "*" || !client.ScopeToken(sc) || slices.Contains(s.Scopes[:i], sc) {
			return invalid("scope_invalid", "The scope %.80q is not a scope (RFC 6749 section 3.3), or is named twice.", sc)
		}
	}
	for _, list := range [][]string{s.Resources, s.Clients, s.DetailsTypes} {
		for i, x := range list {
			if x == "" || x == "*" || slices.Contains(list[:i], x) {
				return invalid("reach_invalid", "%.200q is named twice, or is no name.", x)
			}
		}
	}
	return nil
}

// CheckLink says whether a subject can be linked.
func CheckLink(l Link) error {
	for _, s := range []string{l.Subject, l.Tenant} {
		if len(s) > jose.MaxSubject || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
			return invalid("subject_invalid", "A subject or tenant has at most %d bytes, and no NUL.", jose.MaxSubject)
		}
	}
	if l.Subject == "" {
		return invalid("subject_invalid", "The subject is missing: the sub that the issuer's assertions say.")
	}
	return nil
}
