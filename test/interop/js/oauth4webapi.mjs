// What oauth4webapi does with the server, one case a run.
import * as oauth from 'oauth4webapi'
import { approve, bound, fails, issuer, lab, ok, privateKey, run, same, shown, visit } from './lab.mjs'

async function server(algorithm) {
  return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm }))
}

const as = await server('oauth2')

/** app is a client with its authentication. */
const app = (client_id, auth) => ({ client: { client_id }, auth })
const web = () => app('web-app', oauth.ClientSecretBasic(lab.secrets['web-app']))
const spa = () => app('spa', oauth.None())
const api = () => app('notes-api', oauth.ClientSecretBasic(lab.secrets['notes-api']))
const keyed = async () => app('keyed-app', oauth.PrivateKeyJwt(await privateKey()))

/** begin is a new authorization request and what has to be remembered of it. */
async function begin({ client }, more) {
  const verifier = oauth.generateRandomCodeVerifier(), state = oauth.generateRandomState(), nonce = oauth.generateRandomNonce()
  const parameters = new URLSearchParams({
    client_id: client.client_id, response_type: 'code', redirect_uri: lab.callback, scope: 'openid profile notes:read', state, nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', ...more,
  })
  return { verifier, state, nonce, parameters }
}

function address(parameters) {
  const url = new URL(as.authorization_endpoint)
  url.search = parameters
  return url
}

/** retried does a request again when the server gives a nonce for the proof. */
async function retried(ask, read) {
  try {
    return await read(await ask())
  } catch (e) {
    if (!oauth.isDPoPNonceError(e)) throw e
    return read(await ask())
  }
}

/** redeem takes the answer that came back for tokens. */
async function redeem({ client, auth }, { verifier, state, nonce }, back, options) {
  const given = back instanceof Request ? new URLSearchParams(await back.text()) : back
  const answer = oauth.validateAuthResponse(as, client, given, state)
  return retried(
    () => oauth.authorizationCodeGrantRequest(as, client, auth, answer, lab.callback, verifier, options),
    r => oauth.processAuthorizationCodeResponse(as, client, r, { expectedNonce: nonce, requireIdToken: true }),
  )
}

async function push({ client, auth }, parameters, options) {
  const { request_uri } = await retried(
    () => oauth.pushedAuthorizationRequest(as, client, auth, parameters, options),
    r => oauth.processPushedAuthorizationResponse(as, client, r),
  )
  return new URLSearchParams({ client_id: client.client_id, request_uri })
}

async function login(a, options) {
  const b = await begin(a)
  return redeem(a, b, await visit(address(b.parameters)), options)
}

function refresh({ client, auth }, token, options) {
  return retried(
    () => oauth.refreshTokenGrantRequest(as, client, auth, token, options),
    r => oauth.processRefreshTokenResponse(as, client, r),
  )
}

async function introspect({ client, auth }, token) {
  return oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, auth, token))
}

async function reads(tokens, options) {
  const answer = await oauth.protectedResourceRequest(tokens.access_token, 'GET', new URL('/notes', lab.api), undefined, undefined, options)
  same(answer.status, 200, 'the API')
}

/** polled asks again, as the server says, until somebody has answered. */
async function polled(interval = 5, ask) {
  for (;;) {
    await new Promise(resolve => setTimeout(resolve, interval * 1000))
    try {
      return await ask()
    } catch (e) {
      if (e.error === 'slow_down') interval += 5
      else if (e.error !== 'authorization_pending') throw e
    }
  }
}

const proof = async ({ client }) => ({ DPoP: oauth.DPoP(client, await oauth.generateKeyPair('ES256')) })

await run({
  async discovery() {
    same(await server('oidc'), as, 'the two documents')
    const resource = new URL(lab.api)
    const rs = await oauth.processResourceDiscoveryResponse(resource, await oauth.resourceDiscoveryRequest(resource))
    same(rs.authorization_servers, [lab.issuer], "the resource's servers")
  },
  async 'code with PKCE'() {
    for (const a of [web(), spa()]) {
      const tokens = await login(a)
      same(tokens.scope, 'openid profile notes:read', 'scope')
      await reads(tokens)
    }
  },
  async 'form post'() {
    const a = web(), b = await begin(a, { response_mode: 'form_post' })
    const back = await visit(address(b.parameters))
    ok(back instanceof Request, 'it came in the query')
    ok((await redeem(a, b, back)).access_token, 'no token')
  },
  async 'pushed request'() {
    const a = web(), b = await begin(a)
    await reads(await redeem(a, b, await visit(address(await push(a, b.parameters)))))
  },
  async 'signed request'() {
    const key = await privateKey(), a = app('signing-app', oauth.PrivateKeyJwt(key))
    const b = await begin(a)
    const request = await oauth.issueRequestObject(as, a.client, b.parameters, key)
    const signed = new URLSearchParams({ client_id: a.client.client_id, request })
    await reads(await redeem(a, b, await visit(address(signed))))
    await reads(await redeem(a, b, await visit(address(await push(a, signed)))))
    const plain = await visit(address(b.parameters))
    same(plain.searchParams.get('error'), 'invalid_request', 'an unsigned request')
  },
  async DPoP() {
    const a = spa(), options = await proof(a)
    const tokens = await login(a, options)
    same(tokens.token_type, 'dpop', 'token type')
    await reads(tokens, options)
    const again = await refresh(a, tokens.refresh_token, options)
    await reads(again, options)
    const e = await fails(refresh(a, again.refresh_token, await proof(a)), 'another key')
    same(e.error, 'invalid_grant', 'another key')
  },
  async 'DPoP, pushed request and private_key_jwt'() {
    const a = await keyed(), options = await proof(a), b = await begin(a)
    const tokens = await redeem(a, b, await visit(address(await push(a, b.parameters, options))), options)
    same(tokens.token_type, 'dpop', 'token type')
    await reads(tokens, options)
  },
  async 'mutual TLS'() {
    for (const [id, certificate] of [['certified-app', 'app.example.com'], ['self-signed-app', 'self-signed']]) {
      const client = { client_id: id, use_mtls_endpoint_aliases: true }, a = { client, auth: oauth.TlsClientAuth() }
      const options = { [oauth.customFetch]: shown(certificate) }
      const tokens = await login(a, options)
      ok(bound(tokens.access_token)['x5t#S256'], 'the token is bound to no certificate')
      const { sub } = oauth.getValidatedIdTokenClaims(tokens)
      await oauth.processUserInfoResponse(as, client, sub, await oauth.userInfoRequest(as, client, tokens.access_token, options))
      await refresh(a, tokens.refresh_token, options)
      const other = { [oauth.customFetch]: shown(certificate === 'self-signed' ? 'app.example.com' : 'self-signed') }
      same((await fails(refresh(a, tokens.refresh_token, other), "another's certificate")).error, 'invalid_client', "another's certificate")
    }
  },
  async 'FAPI profile, private_key_jwt and DPoP'() {
    const a = app('fapi-app', oauth.PrivateKeyJwt(await privateKey())), options = await proof(a), b = await begin(a)
    const tokens = await redeem(a, b, await visit(address(await push(a, b.parameters, options))), options)
    await reads(tokens, options)
    await refresh(a, tokens.refresh_token, options)
    same((await visit(address(b.parameters))).searchParams.get('error'), 'invalid_request', 'a request that was not pushed')
    same((await fails(refresh(a, tokens.refresh_token), 'a refresh without a proof')).error, 'invalid_dpop_proof', 'a refresh without a proof')
  },
  async 'FAPI profile, mutual TLS'() {
    const a = { client: { client_id: 'fapi-certified-app', use_mtls_endpoint_aliases: true }, auth: oauth.TlsClientAuth() }
    const options = { [oauth.customFetch]: shown('app.example.com') }, b = await begin(a)
    const tokens = await redeem(a, b, await visit(address(await push(a, b.parameters, options))), options)
    ok(bound(tokens.access_token)['x5t#S256'], 'the token is bound to no certificate')
    await refresh(a, tokens.refresh_token, options)
  },
  async refresh() {
    const a = web()
    const tokens = await login(a), again = await refresh(a, tokens.refresh_token)
    await reads(again)
    same(oauth.getValidatedIdTokenClaims(again).sub, oauth.getValidatedIdTokenClaims(tokens).sub, 'subject')
    const many = await Promise.all(Array.from({ length: 8 }, () => refresh(a, again.refresh_token)))
    same(new Set(many.map(t => t.refresh_token)).size, 1, 'successors of one refresh token')
  },
  async userinfo() {
    const a = web(), tokens = await login(a)
    const { sub } = oauth.getValidatedIdTokenClaims(tokens)
    const info = await oauth.processUserInfoResponse(as, a.client, sub, await oauth.userInfoRequest(as, a.client, tokens.access_token))
    same([info.name, info.preferred_username], ['Dana Example', 'dana'], 'userinfo')
  },
  async introspection() {
    const tokens = await login(web())
    const about = await introspect(api(), tokens.access_token)
    same([about.active, about.client_id, about.aud], [true, 'web-app', lab.api], 'introspection')
    same(await introspect(web(), tokens.access_token), { active: false }, 'introspection by who is not entitled')
  },
  async revocation() {
    const a = web(), tokens = await login(a)
    await oauth.processRevocationResponse(await oauth.revocationRequest(as, a.client, a.auth, tokens.access_token))
    same((await fails(refresh(a, tokens.refresh_token), 'a revoked token')).error, 'invalid_grant', 'a revoked token')
    same(await introspect(api(), tokens.access_token), { active: false }, 'introspection of a revoked grant')
  },
  async 'client credentials'() {
    const { client, auth } = app('nightly', oauth.ClientSecretPost(lab.secrets.nightly))
    const r = await oauth.clientCredentialsGrantRequest(as, client, auth, new URLSearchParams({ scope: 'notes:read', resource: lab.api }))
    await reads(await oauth.processClientCredentialsResponse(as, client, r))
  },
  async 'device flow'() {
    const { client, auth } = app('wallboard', oauth.None())
    const asked = await oauth.processDeviceAuthorizationResponse(as, client, await oauth.deviceAuthorizationRequest(as, client, auth, { scope: 'notes:read' }))
    approve(asked.verification_uri, asked.user_code)
    await reads(await polled(asked.interval, async () => oauth.processDeviceCodeResponse(as, client, await oauth.deviceCodeGrantRequest(as, client, auth, asked.device_code))))
  },
  async CIBA() {
    const { client, auth } = app('call-centre', oauth.PrivateKeyJwt(await privateKey()))
    const asked = await oauth.processBackchannelAuthenticationResponse(as, client, await oauth.backchannelAuthenticationRequest(as, client, auth,
      { scope: 'openid notes:read', login_hint: 'dana', binding_message: 'W4SCT' }))
    approve(`${lab.issuer}/account/requests`)
    await reads(await polled(asked.interval, async () =>
      oauth.processBackchannelAuthenticationGrantResponse(as, client, await oauth.backchannelAuthenticationGrantRequest(as, client, auth, asked.auth_req_id))))
  },
  async logout() {
    const a = web(), tokens = await login(a), state = oauth.generateRandomState()
    const url = new URL(as.end_session_endpoint)
    url.search = new URLSearchParams({ id_token_hint: tokens.id_token, client_id: 'web-app', post_logout_redirect_uri: lab.callback, state })
    same((await visit(url)).searchParams.get('state'), state, 'state')
  },
  async refusal() {
    const a = web(), b = await begin(a, { prompt: 'none', max_age: '0' })
    const e = await fails(redeem(a, b, await visit(address(b.parameters))), 'prompt=none with max_age=0')
    same(e.error, 'interaction_required', 'prompt=none with max_age=0')
  },
})
