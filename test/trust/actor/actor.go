// Package actor is people and clients of a server that is under test, without a
// browser: real HTTP, real cookies, passkeys made in software. What is asked of
// them, and what their answers prove, belongs to the tests.
package actor

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/descope/virtualwebauthn"
)

// Passkey is somebody's passkey: the same in every browser they use.
type Passkey struct {
	auth virtualwebauthn.Authenticator
	cred virtualwebauthn.Credential
}

// Browser is one browser with its own cookies.
type Browser struct {
	Issuer string
	Key    *Passkey // of whom it belongs to; nil before they have one
	// Elsewhere: the app is on another computer, so that the answer is shown and
	// not followed.
	Elsewhere bool
	// Consent is the consent page that was last seen; the zero value if none was.
	Consent Answer
	// Last is the last answer of an authorization.
	Last   Answer
	client *http.Client
	jar    http.CookieJar
}

// New opens a browser. The issuer's host is a localhost name.
func New(issuer string, key *Passkey) *Browser {
	jar, _ := cookiejar.New(nil) // it only fails for options
	return &Browser{Issuer: issuer, Key: key, jar: jar, client: &http.Client{
		Jar: jar, Timeout: time.Minute,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 4},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes its connections.
func (b *Browser) Close() { b.client.CloseIdleConnections() }

// Answer is what came back.
type Answer struct {
	Status   int
	Body     string
	Location string
	Header   http.Header
}

// Send sends a request as a page of the issuer would.
func (b *Browser) Send(method, path, contentType, body string, header http.Header) (Answer, error) {
	req, err := http.NewRequest(method, b.Issuer+path, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	}
	if method == http.MethodPost {
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		req.Header.Set("Origin", b.Issuer)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return Answer{resp.StatusCode, string(text), resp.Header.Get("Location"), resp.Header}, err
}

// Get fetches a page.
func (b *Browser) Get(path string) (Answer, error) { return b.Send(http.MethodGet, path, "", "", nil) }

// Post sends a form.
func (b *Browser) Post(path string, form url.Values) (Answer, error) {
	return b.Send(http.MethodPost, path, "application/x-www-form-urlencoded", form.Encode(), nil)
}

// Script posts what the pages' script posts.
func (b *Browser) Script(path string, fields map[string]any) (Answer, error) {
	body, err := json.Marshal(fields)
	if err != nil {
		return Answer{}, err
	}
	return b.Send(http.MethodPost, path, "application/json", string(body), nil)
}

// Cookie is the value of a cookie of the issuer, "" if there is none.
func (b *Browser) Cookie(name string) string {
	u, err := url.Parse(b.Issuer)
	if err != nil {
		return ""
	}
	for _, c := range b.jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

func (b *Browser) relyingParty() virtualwebauthn.RelyingParty {
	u, _ := url.Parse(b.Issuer)
	return virtualwebauthn.RelyingParty{Name: "Countersign", ID: u.Hostname(), Origin: b.Issuer}
}

// next is where the script is told to go.
func next(a Answer, err error) (string, error) {
	if err != nil {
		return "", err
	}
	var out struct{ Location string }
	if json.Unmarshal([]byte(a.Body), &out) != nil || a.Status != http.StatusOK || out.Location == "" {
		return "", fmt.Errorf("the script is told %d %.300s", a.Status, a.Body)
	}
	return out.Location, nil
}

// Decision is what is pressed on a consent page.
func (b *Browser) Decision() string {
	if b.Elsewhere {
		return "copy"
	}
	return "allow"
}

// Field is the value of a hidden field of a page, "" if it has none.
func (a Answer) Field(name string) string {
	m := regexp.MustCompile(`name="` + name + `" value="([^"]*)"`).FindStringSubmatch(a.Body)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

// SetUp goes through setting up with the link, as the first administrator, with
// one passkey.
func (b *Browser) SetUp(link, name, username string) error {
	_, secret, _ := strings.Cut(link, "#")
	page, err := next(b.Script("/setup/open", map[string]any{"secret": secret}))
	if err != nil {
		return fmt.Errorf("open the setup link: %w", err)
	}
	a, err := b.Get(page)
	if err != nil {
		return err
	}
	a, err = b.Post("/setup/name", url.Values{"tx": {a.Field("tx")}, "display_name": {name}, "username": {username}})
	if err != nil {
		return err
	}
	if a.Location == "" {
		return fmt.Errorf("setting up stops: %d %s", a.Status, title(a.Body))
	}
	if a, err = b.Get(a.Location); err != nil {
		return err
	}
	to, err := b.enrol("/setup/passkey/options", "/setup/passkey/finish", map[string]any{"tx": a.Field("tx"), "passkey_name": "Laptop"})
	if err == nil && to != "/setup/second" {
		err = fmt.Errorf("setting up leads to %s", to)
	}
	return err
}

// Join goes through an invitation, with one passkey.
func (b *Browser) Join(link, name, username string) error {
	_, secret, _ := strings.Cut(link, "#")
	page, err := next(b.Script("/invite/open", map[string]any{"secret": secret}))
	if err != nil {
		return fmt.Errorf("open the invitation: %w", err)
	}
	a, err := b.Get(page)
	if err != nil {
		return err
	}
	to, err := b.enrol("/invite/options", "/invite/finish", map[string]any{"tx": a.Field("tx"), "display_name": name, "username": username, "passkey_name": "Phone"})
	if err == nil && to != "/invite/second" {
		err = fmt.Errorf("the invitation leads to %s", to)
	}
	return err
}

// enrol makes a passkey, which is then the browser's.
func (b *Browser) enrol(options, finish string, fields map[string]any) (string, error) {
	a, err := b.Script(options, fields)
	if err != nil {
		return "", err
	}
	if a.Status != http.StatusOK {
		return "", fmt.Errorf("%s: %d %.300s", options, a.Status, a.Body)
	}
	o, err := virtualwebauthn.ParseAttestationOptions(a.Body)
	if err != nil {
		return "", err
	}
	key := &Passkey{auth: virtualwebauthn.NewAuthenticator(), cred: virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)}
	for len(key.cred.Key.AttestationData()) != 77 { // the library drops leading zeros of coordinates
		key.cred = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	key.auth.Options.UserHandle = []byte(o.UserID)
	with := map[string]any{"credential": json.RawMessage(virtualwebauthn.CreateAttestationResponse(b.relyingParty(), key.auth, key.cred, *o))}
	for k, v := range fields {
		with[k] = v
	}
	to, err := next(b.Script(finish, with))
	if err == nil {
		b.Key = key
	}
	return to, err
}

// prove shows the passkey.
func (b *Browser) prove(options, finish string, fields map[string]any) (string, error) {
	a, err := b.Script(options, fields)
	if err != nil {
		return "", err
	}
	if a.Status != http.StatusOK {
		return "", fmt.Errorf("%s: %d %.300s", options, a.Status, a.Body)
	}
	o, err := virtualwebauthn.ParseAssertionOptions(a.Body)
	if err != nil {
		return "", err
	}
	with := map[string]any{"credential": json.RawMessage(virtualwebauthn.CreateAssertionResponse(b.relyingParty(), b.Key.auth, b.Key.cred, *o))}
	for k, v := range fields {
		with[k] = v
	}
	return next(b.Script(finish, with))
}

// SignIn opens a session.
func (b *Browser) SignIn() error {
	if _, err := b.Get("/signin?next=/account"); err != nil {
		return err
	}
	_, err := b.prove("/signin/options", "/signin/finish", map[string]any{"next": "/account"})
	return err
}

// Authorize sends an authorization request and does what the pages ask, until
// the answer goes back to the client: its parameters.
func (b *Browser) Authorize(request url.Values) (url.Values, error) {
	path := "/oauth/authorize?" + request.Encode()
	for range 6 {
		a, err := b.Get(path)
		if err != nil {
			return nil, err
		}
		to := a.Location
		b.Last = a
		switch {
		case to == "":
			return nil, fmt.Errorf("the authorization stops: %d %.200s", a.Status, title(a.Body))
		case strings.HasPrefix(to, request.Get("redirect_uri")):
			u, err := url.Parse(to)
			if err != nil {
				return nil, err
			}
			return u.Query(), nil
		case strings.HasPrefix(to, "/signin?") || strings.HasPrefix(to, "/step-up?"):
			u, err := url.Parse(to)
			if err != nil {
				return nil, err
			}
			if path, err = b.prove(u.Path+"/options", u.Path+"/finish", map[string]any{"tx": u.Query().Get("tx")}); err != nil {
				return nil, err
			}
		case strings.HasPrefix(to, "/consent?"):
			page, err := b.Get(to)
			if err != nil {
				return nil, err
			}
			b.Consent = page
			if a, err = b.Post("/consent", url.Values{"tx": {page.Field("tx")}, "seen": {page.Field("seen")}, "decision": {b.Decision()}}); err != nil {
				return nil, err
			}
			if path = a.Location; path == "" {
				return nil, fmt.Errorf("the consent stops: %d %.200s", a.Status, title(a.Body))
			}
		default:
			return nil, fmt.Errorf("the authorization leads to %s", to)
		}
	}
	return nil, errors.New("the authorization does not end")
}

func title(body string) string {
	m := regexp.MustCompile(`<title>([^<]*)</title>`).FindStringSubmatch(body)
	if m == nil {
		return body[:min(len(body), 200)]
	}
	return html.UnescapeString(m[1])
}

var here = regexp.MustCompile(`(?s)class="node here".*?/account/end\?id=(ses_\w+)`)

// Session is the id of the session that the browser is in, as its own page
// says.
func (b *Browser) Session() (string, error) {
	a, err := b.Get("/account/sessions")
	if err != nil {
		return "", err
	}
	m := here.FindStringSubmatch(a.Body)
	if m == nil {
		return "", fmt.Errorf("the page of sessions does not tell: %d %s", a.Status, title(a.Body))
	}
	return m[1], nil
}

// End ends a session, or whatever else the tree shows, by its page's button.
func (b *Browser) End(id string) error {
	a, err := b.Post("/account/end", url.Values{"id": {id}})
	if err != nil {
		return err
	}
	if a.Status != http.StatusSeeOther || strings.HasPrefix(a.Location, "/step-up") || strings.HasPrefix(a.Location, "/signin") {
		return fmt.Errorf("ending %s: %d to %s, %s", id, a.Status, a.Location, title(a.Body))
	}
	return nil
}

// AllowDevice types the code that a device shows, and lets the device act for whoever
// the browser belongs to.
func (b *Browser) AllowDevice(userCode string) error {
	if _, err := b.Get("/device"); err != nil {
		return err
	}
	a, err := b.Post("/device", url.Values{"user_code": {userCode}})
	if err != nil {
		return err
	}
	return b.allow(a, "/device/allow", userCode)
}

// AllowRequest lets the app act for whoever the browser belongs to that asks them and
// is listed first.
func (b *Browser) AllowRequest() error {
	list, err := b.Get("/account/requests")
	if err != nil {
		return err
	}
	a, err := b.Get("/account/requests/open?id=" + url.QueryEscape(list.Field("id")))
	if err != nil {
		return err
	}
	return b.allow(a, "/account/requests/ask", "")
}

// allow follows redirects to a page that asks, says yes there with what is to be typed
// again, and proves who it is where that is asked for.
func (b *Browser) allow(a Answer, page, typed string) (err error) {
	for range 8 {
		to := a.Location
		switch {
		case strings.HasPrefix(to, "/signin?") || strings.HasPrefix(to, "/step-up?"):
			u, err := url.Parse(to)
			if err != nil {
				return err
			}
			if a.Location, err = b.prove(u.Path+"/options", u.Path+"/finish", map[string]any{"tx": u.Query().Get("tx")}); err != nil {
				return err
			}
			continue
		case strings.HasPrefix(to, page+"?"):
			if a, err = b.Get(to); err != nil || a.Location != "" {
				break
			}
			if a, err = b.Post(page, url.Values{"tx": {a.Field("tx")}, "decision": {"allow"}, "typed": {typed}}); err == nil && a.Location == "" {
				if a.Status != http.StatusOK || a.Field("tx") != "" {
					err = fmt.Errorf("it is not allowed: %d %.200s", a.Status, title(a.Body))
				}
				return err
			}
		case strings.HasPrefix(to, "/oauth/"):
			a, err = b.Get(to)
		default:
			err = fmt.Errorf("allowing stops: %d to %q, %.200s", a.Status, to, title(a.Body))
		}
		if err != nil {
			return err
		}
	}
	return errors.New("allowing does not end")
}
