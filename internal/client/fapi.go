package client

import "slices"

// FAPI2 is the security profile of FAPI 2.0 (Security Profile, final, February
// 2025): one switch that every rule of it hangs on.
const FAPI2 = "fapi2"

// FAPI reports whether the client is held to the FAPI 2.0 Security Profile.
func (c Client) FAPI() bool { return c.Profile == FAPI2 }

// FAPIAlgorithms are what a JWT of a FAPI client, or for one, may be signed with
// (FAPI 2.0 §5.4.1).
var FAPIAlgorithms = []string{"PS256", "ES256", "EdDSA", "Ed25519"}

// checkProfile says whether a client is what its security profile demands. What a
// request has to be is judged at each request.
func checkProfile(c Client) error {
	bad := func(why string) error {
		return invalid("profile_unmet", "A client with security_profile fapi2 %s (FAPI 2.0 section 5.3).", why)
	}
	if c.Profile != "" && c.Profile != FAPI2 {
		return invalid("profile_unknown", "There is no security_profile %.60q here.", c.Profile)
	}
	if !c.FAPI() {
		return nil
	}
	for _, g := range c.GrantTypes {
		if !slices.Contains([]GrantType{AuthorizationCode, RefreshToken, ClientCredentials}, g) {
			return bad("uses authorization_code, refresh_token and client_credentials only")
		}
	}
	for _, u := range c.RedirectURIs {
		if NativeRedirect(u) {
			return bad("is redirected to https only")
		}
	}
	for _, alg := range []string{c.IDTokenAlg, c.UserInfoAlg} {
		if alg != "" && !slices.Contains(FAPIAlgorithms, alg) {
			return bad("is answered with PS256, ES256 or EdDSA only")
		}
	}
	switch {
	case !c.Asymmetric():
		return bad("authenticates with private_key_jwt, tls_client_auth or self_signed_tls_client_auth")
	case !c.RequireDPoP && !c.CertificateBound:
		return bad("has its tokens bound: require_dpop or tls_client_certificate_bound_access_tokens")
	case c.Native:
		return bad("is no app on a computer")
	}
	return nil
}
