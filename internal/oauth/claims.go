package oauth

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/web"
)

// claimScope says by which scope a claim about a person is told, and so under which
// words consent shows it when it is asked for by itself.
var claimScope = map[string]string{"name": "profile", "preferred_username": "profile", "email": "email", "email_verified": "email"}

// claimsOf are the claims about a person that are known (OpenID Connect Core §5.1).
func claimsOf(p *account.Person) map[string]any {
	out := map[string]any{"name": p.Name, "preferred_username": p.Username}
	if p.Email != "" {
		out["email"], out["email_verified"] = p.Email, p.Verified
	}
	return out
}

// told are the claims that a place gets: those of its scopes, and those that were
// asked for there one by one. One that was asked for with values is told only if it
// has one of them (§5.5.1).
func told(p *account.Person, scopes []string, asked []grant.ClaimAsked) map[string]any {
	known, out := claimsOf(p), map[string]any{}
	for name, v := range known {
		if slices.Contains(scopes, claimScope[name]) {
			out[name] = v
		}
	}
	for _, c := range asked {
		v, ok := known[c.Name]
		if !ok {
			continue
		}
		text, err := json.Marshal(v)
		if len(c.Values) == 0 || err == nil && slices.Contains(c.Values, string(text)) {
			out[c.Name] = v
		}
	}
	return out
}

// claimRequest is what the claims parameter says of one claim (§5.5.1).
type claimRequest struct {
	Essential bool              `json:"essential"`
	Value     json.RawMessage   `json:"value"`
	Values    []json.RawMessage `json:"values"`
}

// wanted are the values that are asked for, as JSON; none: any will do.
func (c *claimRequest) wanted() (out []string) {
	if c == nil {
		return nil
	}
	if len(c.Value) > 0 {
		out = append(out, string(c.Value))
	}
	for _, v := range c.Values {
		out = append(out, string(v))
	}
	return out
}

// texts are the values that are strings.
func (c *claimRequest) texts() (out []string) {
	for _, v := range c.wanted() {
		var s string
		if json.Unmarshal([]byte(v), &s) == nil {
			out = append(out, s)
		}
	}
	return out
}

// maxClaimValues is how many values a claim may be asked for with.
const maxClaimValues = 16

// claims reads the claims parameter (OpenID Connect Core §5.5): what is to be told
// where, an essential acr, and the person that the answer has to be about. What is
// not known here is ignored, as §5.5 says.
func (a *authRequest) claims(f web.Form) error {
	text := f.Get("claims")
	if text == "" {
		return nil
	}
	malformed := invalid("invalid_request", "claims is not a JSON object that can be understood.")
	strict, err := canon.Strict([]byte(text), canon.Limits{Bytes: 8 << 10, Depth: 8, Members: 256, NameBytes: 256})
	if err != nil {
		return malformed.Because(err)
	}
	var claims struct {
		IDToken  map[string]*claimRequest `json:"id_token"`
		UserInfo map[string]*claimRequest `json:"userinfo"`
	}
	if err := json.Unmarshal(strict, &claims); err != nil {
		return malformed.Because(err)
	}
	places := []map[string]*claimRequest{claims.IDToken, claims.UserInfo}
	for _, place := range places {
		for _, c := range place {
			if len(c.wanted()) > maxClaimValues {
				return invalid("invalid_request", "claims names too many values of a claim.")
			}
		}
	}
	a.essential(places)
	if err := a.about(places); err != nil {
		return err
	}
	if slices.Contains(strings.Fields(f.Get("scope")), "openid") {
		a.in.Claims = grant.ClaimsAsked{IDToken: asked(claims.IDToken), UserInfo: asked(claims.UserInfo)}
	}
	return nil
}

// asked are the claims about the person among those that are asked for, by name.
func asked(place map[string]*claimRequest) (out []grant.ClaimAsked) {
	for name := range claimScope {
		if c, ok := place[name]; ok {
			out = append(out, grant.ClaimAsked{Name: name, Values: c.wanted()})
		}
	}
	slices.SortFunc(out, func(a, b grant.ClaimAsked) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// essential reads an essential acr. It binds like acr_values, and comes before them;
// a token weaker than what is essential must not pass silently (mechanisms A18).
func (a *authRequest) essential(places []map[string]*claimRequest) {
	for _, place := range places {
		// One without values is always told.
		if c := place["acr"]; c != nil && c.Essential && len(c.wanted()) > 0 {
			a.required = append([]string{}, c.texts()...)
			return
		}
	}
}

// about reads sub with a value: nobody else may be answered about (§5.5.1). It is
// the subject that this client knows the person by.
func (a *authRequest) about(places []map[string]*claimRequest) error {
	for _, place := range places {
		c := place["sub"]
		if len(c.wanted()) == 0 {
			continue
		}
		subs := c.texts()
		if len(subs) != 1 || a.in.Subject != "" && a.in.Subject != subs[0] {
			return invalid("invalid_request", "claims asks for more than one subject.")
		}
		a.in.Subject = subs[0]
	}
	return nil
}

// require takes what is essential in place of acr_values, as far as the ladder
// knows it. What it does not know cannot be reached.
func (s *Server) require(a *authRequest) error {
	if a.required == nil {
		return nil
	}
	a.in.ACRValues = nil
	for _, v := range a.required {
		if s.Ladder.RungOf(v) != 0 {
			a.in.ACRValues = append(a.in.ACRValues, v)
		}
	}
	if len(a.in.ACRValues) == 0 {
		return invalid("unmet_authentication_requirements", "None of the acr values that are essential is known here: "+asciiOnly(strings.Join(a.required, " ")))
	}
	return nil
}
