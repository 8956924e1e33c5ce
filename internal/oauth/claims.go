package oauth

import (
	"encoding/json"
	"strings"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/web"
)

// acrClaim is what the claims parameter may say of acr (OpenID Connect Core
// §5.5.1.1). Other claims are not asked for one by one here.
type acrClaim struct {
	ACR *struct {
		Essential bool     `json:"essential"`
		Value     string   `json:"value"`
		Values    []string `json:"values"`
	} `json:"acr"`
}

// essential reads an essential acr out of the claims parameter. It binds like
// acr_values, and comes before them; a token weaker than what is essential must
// not pass silently (mechanisms A18).
func (a *authRequest) essential(f web.Form) error {
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
		IDToken  acrClaim `json:"id_token"`
		UserInfo acrClaim `json:"userinfo"`
	}
	if err := json.Unmarshal(strict, &claims); err != nil {
		return malformed.Because(err)
	}
	for _, c := range []acrClaim{claims.IDToken, claims.UserInfo} {
		if c.ACR == nil || !c.ACR.Essential {
			continue
		}
		wanted := c.ACR.Values
		if c.ACR.Value != "" {
			wanted = append([]string{c.ACR.Value}, wanted...)
		}
		if len(wanted) == 0 { // any will do, and one is always told
			continue
		}
		if a.required = wanted; len(wanted) > 16 {
			return invalid("invalid_request", "claims names too many acr values.")
		}
		return nil
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
