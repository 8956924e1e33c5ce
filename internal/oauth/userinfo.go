package oauth

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// userinfo tells a client about the person (OpenID Connect Core §5.3). It takes
// any live access token of ours with the scope openid, whatever its audience:
// clients that use resource indicators hold no other (docs/divergences.md).
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) error {
	text, scheme, err := presentedToken(r)
	if err != nil {
		return challenge(w, scheme, "invalid_request")
	}
	if text == "" {
		return challenge(w, "", "")
	}
	claims, nodes, err := s.live(r.Context(), text)
	if err != nil {
		if !problem.Refusal(err) {
			return renderError(w, r, err)
		}
		note(r, "error", problem.CodeOf(err))
		return challenge(w, scheme, "invalid_token")
	}
	if code, err := s.possessed(w, r, text, scheme, claims, nodes); err != nil {
		return renderError(w, r, err)
	} else if code != "" {
		return challenge(w, scheme, code)
	}
	if !slices.Contains(strings.Fields(claims.Scope), "openid") {
		return challenge(w, scheme, "insufficient_scope")
	}
	out, c, err := s.describePerson(r.Context(), claims, nodes)
	if errors.Is(err, errMoved) {
		err = contended.Because(err)
	}
	if problem.Refusal(err) {
		return challenge(w, scheme, "invalid_token")
	}
	if err != nil {
		return renderError(w, r, err)
	}
	if c.UserInfoAlg != "" {
		return s.signedUserinfo(w, *c, out)
	}
	return web.JSON(w, http.StatusOK, out)
}

// describePerson is what userinfo says to the client of a token, which hangs on
// nodes. Rows may come from memory: each is held against its node, which was read
// now, and all are read anew where one moved.
func (s *Server) describePerson(ctx context.Context, claims *jose.AccessTokenClaims, nodes []lineage.Node) (out map[string]any, c *client.Client, err error) {
	for try := range 3 {
		if try > 0 {
			if nodes, err = s.unended(ctx, claims); err != nil {
				return nil, nil, err
			}
		}
		rows := rows{s: s, now: s.now(), recall: try == 0}
		if out, c, err = rows.describePerson(ctx, claims, nodes); err == nil {
			err = rows.same(&act.Facts{Nodes: nodes})
		}
		if err == nil || !rows.old && !errors.Is(err, errMoved) {
			break
		}
	}
	return out, c, err
}

// describePerson says what the token's scopes open, and what was asked for one by one
// in the authorization that it comes from.
func (r *rows) describePerson(ctx context.Context, claims *jose.AccessTokenClaims, nodes []lineage.Node) (map[string]any, *client.Client, error) {
	c, err := r.clientByClientID(ctx, claims.ClientID)
	if err != nil {
		return nil, nil, err
	}
	gr, err := r.grantOf(ctx, nodes)
	if err != nil {
		return nil, nil, err
	}
	who, err := r.person(ctx, gr.Person)
	if err != nil {
		return nil, nil, err
	}
	out := told(who, strings.Fields(claims.Scope), gr.Claims.UserInfo)
	out["sub"] = claims.Subject
	return out, c, nil
}

// signedUserinfo answers with a JWT (OpenID Connect Core §5.3.2). It has no expiry
// and no time, so nothing takes it for an ID token.
func (s *Server) signedUserinfo(w http.ResponseWriter, c client.Client, out map[string]any) error {
	out["iss"], out["aud"] = s.Issuer, c.ClientID
	signer, err := s.Keys.Signer(keyring.IDToken, c.UserInfoAlg, jose.TypIDToken)
	if err != nil {
		return err
	}
	text, err := signer.Sign(out)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/jwt")
	w.Header().Set("Cache-Control", "no-store")
	_, err = io.WriteString(w, text)
	return err
}

// possessed checks the sender constraint of a token presented to us: a bound
// token needs its proof, and a proof is used once. code is what is wrong, ""
// if nothing is.
func (s *Server) possessed(w http.ResponseWriter, r *http.Request, text, scheme string, claims *jose.AccessTokenClaims, nodes []lineage.Node) (code string, err error) {
	if !s.holds(r, claims.Confirmation) {
		return "invalid_token", s.anothers(r, nodes)
	}
	if claims.Confirmation == nil || claims.Confirmation.JKT == "" {
		if scheme != "Bearer" {
			return "invalid_token", nil
		}
		return "", nil
	}
	if scheme != "DPoP" {
		return "invalid_token", nil
	}
	p, err := s.dpop(w, r, text)
	if q := problem.From(err); q != nil && q.Kind == problem.Invalid {
		return q.Code, nil
	}
	if err != nil {
		return "", err
	}
	if p == nil {
		return "invalid_dpop_proof", nil
	}
	if p.jkt != claims.Confirmation.JKT {
		return "invalid_token", s.anothers(r, nodes)
	}
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.ProofSpend, Kind: audit.ProofSeen, Refs: act.Refs{Kind: policy.KindSystem}, Spend: []once.Spend{p.spend},
	})
	if _, used := act.Spent(err); used {
		return "invalid_dpop_proof", nil
	}
	return "", err
}

// anothers remembers that somebody else than its holder showed a token, which hangs on
// nodes.
func (s *Server) anothers(r *http.Request, nodes []lineage.Node) error {
	gr, err := (&rows{s: s, now: s.now()}).grantOf(r.Context(), nodes)
	if problem.Refusal(err) {
		gr, err = &grant.Grant{}, nil // of a service
	}
	if err == nil {
		s.Do.Missed(act.Wrong{Way: act.WayToken, Whose: gr.Person}, s.networkOf(r), s.now())
	}
	return err
}

// presentedToken reads the Authorization header: exactly one, DPoP or Bearer.
// Another scheme presents no token.
func presentedToken(r *http.Request) (text, scheme string, err error) {
	h := r.Header.Values("Authorization")
	if len(h) == 0 {
		return "", "", nil
	}
	name, text, _ := strings.Cut(h[0], " ")
	switch {
	case strings.EqualFold(name, "DPoP"):
		scheme = "DPoP"
	case strings.EqualFold(name, "Bearer"):
		scheme = "Bearer"
	default:
		text = ""
	}
	if len(h) > 1 || scheme != "" && (text == "" || strings.ContainsAny(text, " \t,")) {
		return "", cmp.Or(scheme, "Bearer"), errClient
	}
	return text, scheme, nil
}

// challenge answers 400, 401 or 403 as a resource server (RFC 6750 §3, RFC 9449
// §7.1).
func challenge(w http.ResponseWriter, scheme, code string) error {
	algs := `algs="` + strings.Join(jose.DPoPAlgorithms, " ") + `"`
	status, lines := http.StatusUnauthorized, []string{"DPoP " + algs, "Bearer"}
	if code != "" {
		line := scheme + ` error="` + code + `"`
		switch code {
		case "insufficient_scope":
			status, line = http.StatusForbidden, line+`, scope="openid"`
		case "invalid_request":
			status = http.StatusBadRequest
		}
		if scheme == "DPoP" {
			line += ", " + algs
		}
		lines = []string{line}
	}
	for _, l := range lines {
		w.Header().Add("WWW-Authenticate", l)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	return nil
}

// spendCaller spends a client assertion at an endpoint that changes nothing
// else: it is used once wherever it is used.
func (s *Server) spendCaller(ctx context.Context, c *caller) error {
	if len(c.spend) == 0 {
		return nil
	}
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.ProofSpend, Kind: audit.ProofSeen, Refs: act.Refs{Kind: policy.KindSystem}, Spend: c.spend,
	})
	if used, ok := act.Spent(err); ok {
		return replayed(used)
	}
	return err
}

// refusedQuietly counts a refusal of somebody who is not authenticated: totals
// per minute, never records (mechanisms E5). A wrong proof counts for risk, too.
func (s *Server) refusedQuietly(r *http.Request, action policy.Action, err error) {
	s.Do.Missed(err, s.networkOf(r), s.now())
	if p := problem.From(err); p != nil && s.Do.Refused != nil {
		s.Do.Refused(action, p.Code)
	}
}
