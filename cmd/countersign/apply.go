package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// change is one object of the file, and what would become of it.
type change struct {
	Kind   string       `json:"kind"`   // resource, client, webhook or factor_kind
	Name   string       `json:"name"`   // uri, client_id, name or kind
	Action string       `json:"action"` // create, update or none
	Fields []difference `json:"fields"`

	want object
	have object
	path string // of an update
	etag string
}

// writable are the members that a PUT carries.
var writable = map[string][]string{
	"resource": {"uri", "name", "scopes", "authorization_details_types", "servers", "require_dpop", "delegation_aware"},
	"client": {
		"client_id", "name", "auth_method", "jwks", "redirect_uris", "grant_types", "scopes", "resources", "require_dpop",
		"require_pushed_authorization_requests", "require_signed_request_object", "jwks_uri",
		"id_token_signed_response_alg", "userinfo_signed_response_alg", "subject_type", "sector_identifier_uri",
		"post_logout_redirect_uris", "backchannel_logout_uri", "backchannel_logout_session_required",
		"authorization_details_types", "may_act", "security_profile",
		"tls_client_auth_subject_dn", "tls_client_auth_san_dns", "tls_client_auth_san_uri", "tls_client_auth_san_ip", "tls_client_auth_san_email",
		"tls_client_certificate_bound_access_tokens", "device_scope", "device_confirmation_code",
		"backchannel_token_delivery_mode", "backchannel_client_notification_endpoint", "backchannel_authentication_request_signing_alg",
		"backchannel_scope", "backchannel_number_matching",
	},
	"webhook": {"name", "url", "events"}, "factor_kind": {"allowed"},
	"trusted-issuer": writableIssuer,
}

// identity is the member by which an object is found.
var identity = map[string]string{"resource": "uri", "client": "client_id", "webhook": "name", "trusted-issuer": "issuer"}

func (a *app) apply() *cobra.Command {
	var file, secrets string
	var yes, dry bool
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make clients, resources, webhooks, trusted issuers and ways to sign in as a file says",
		Long: `Make clients, resources, webhooks, trusted issuers, and which ways to sign in people may
use, as a YAML file says. What would change is shown first.
What the file does not name, and what it does not say of what it names, stays as
it is; nothing is ever removed.`,
		Example: "  countersign apply -f apps.yaml --dry-run",
		Args:    cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVarP(&file, "file", "f", "", "the file, - for standard input")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&dry, "dry-run", false, "show what would change, change nothing")
	f.StringVar(&secrets, "secrets-file", "", "new file for the secrets that clients and webhooks are given")
	_ = c.MarkFlagRequired("file")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		m, err := a.manifest(file)
		if err != nil {
			return err
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		plan, err := x.plan(ctx, m)
		if err != nil {
			return err
		}
		todo := count(plan)
		if !a.json {
			a.show(plan)
		}
		if todo == 0 || dry {
			return a.applied(plan, false)
		}
		vault, err := openVault(plan, secrets)
		if err != nil {
			return err
		}
		if err := a.confirm(todo, yes, file); err != nil {
			return errors.Join(err, vault.close())
		}
		err = x.carryOut(ctx, plan, vault)
		if err := errors.Join(err, vault.close()); err != nil {
			return err
		}
		return a.applied(plan, true)
	})
	return c
}

func (a *app) manifest(file string) (*manifest, error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usage("The file cannot be read: %v.", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, 4<<20))
	if err != nil {
		return nil, usage("The file cannot be read: %v.", err)
	}
	return parseManifest(text)
}

func count(plan []*change) (n int) {
	for _, c := range plan {
		if c.Action != "none" {
			n++
		}
	}
	return n
}

// plan compares the file with what the server has.
func (x *api) plan(ctx context.Context, m *manifest) ([]*change, error) {
	_, resources, err := items[object](ctx, x, "/resources")
	if err != nil {
		return nil, err
	}
	_, clients, err := items[object](ctx, x, "/clients")
	if err != nil {
		return nil, err
	}
	var plan []*change
	for _, r := range m.Resources {
		c := &change{Kind: "resource", Name: r.URI, want: fields(r)}
		if have := find(resources, "uri", r.URI); have != nil {
			id, _ := have["id"].(string)
			c.path = "/resources/" + url.PathEscape(id)
		}
		plan = append(plan, c)
	}
	for _, w := range m.Clients {
		c := &change{Kind: "client", Name: w.ClientID, want: fields(w)}
		if find(clients, "client_id", w.ClientID) != nil {
			c.path = "/clients/" + url.PathEscape(w.ClientID)
		}
		plan = append(plan, c)
	}
	hooks, err := x.planWebhooks(ctx, m)
	if err != nil {
		return nil, err
	}
	kinds, err := x.planKinds(ctx, m)
	if err != nil {
		return nil, err
	}
	issuers, err := x.planIssuers(ctx, m)
	if err != nil {
		return nil, err
	}
	plan = append(append(append(plan, hooks...), kinds...), issuers...)
	for _, c := range plan {
		if err := x.compare(ctx, c); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// planWebhooks finds the file's webhooks by their names, which have to be one
// each.
func (x *api) planWebhooks(ctx context.Context, m *manifest) (plan []*change, err error) {
	if len(m.Webhooks) == 0 {
		return nil, nil
	}
	_, all, err := items[object](ctx, x, "/webhooks")
	if err != nil {
		return nil, err
	}
	for _, w := range m.Webhooks {
		c := &change{Kind: "webhook", Name: w.Name, want: fields(w)}
		for _, have := range all {
			if have["name"] != w.Name {
				continue
			}
			if c.path != "" {
				return nil, &failure{exit: exitError, code: "name_ambiguous", message: "There are two webhooks named " + w.Name + ".", fix: "countersign webhook list"}
			}
			id, _ := have["id"].(string)
			c.path = "/webhooks/" + url.PathEscape(id)
		}
		plan = append(plan, c)
	}
	return plan, nil
}

// planKinds finds the ways to sign in that the file speaks of: the server knows which
// there are.
func (x *api) planKinds(ctx context.Context, m *manifest) (plan []*change, err error) {
	if len(m.FactorKinds) == 0 {
		return nil, nil
	}
	_, all, err := items[object](ctx, x, "/factor-kinds")
	if err != nil {
		return nil, err
	}
	for _, k := range m.FactorKinds {
		c := &change{Kind: "factor_kind", Name: k.Kind, want: fields(k), have: find(all, "kind", k.Kind), path: "/factor-kinds/" + url.PathEscape(k.Kind)}
		if c.have == nil {
			return nil, usage("There is no way to sign in called %s that can be switched.", k.Kind)
		}
		plan = append(plan, c)
	}
	return plan, nil
}

func find(list []object, name, value string) object {
	for _, o := range list {
		if o[name] == value {
			return o
		}
	}
	return nil
}

// compare reads one object as it is now, with the tag that an update must match.
func (x *api) compare(ctx context.Context, c *change) error {
	c.Action, c.Fields = "create", []difference{}
	switch {
	case c.Kind == "factor_kind": // read with the list
		c.Action = "update"
	case c.path != "":
		r, err := x.do(ctx, http.MethodGet, c.path, nil, "")
		if err != nil {
			return err
		}
		if err := json.Unmarshal(r.body, &c.have); err != nil {
			return &failure{exit: exitError, code: "bad_answer", message: "The server's " + c.Kind + " cannot be read."}
		}
		c.Action, c.etag = "update", r.etag
	}
	for _, d := range differences(c.want, c.have) {
		if d.Field == identity[c.Kind] {
			continue
		}
		c.Fields = append(c.Fields, d)
	}
	if c.Action == "update" && len(c.Fields) == 0 {
		c.Action = "none"
	}
	return nil
}

// show writes the difference for people.
func (a *app) show(plan []*change) {
	for _, c := range plan {
		mark := map[string]string{"create": "+", "update": "~", "none": "="}[c.Action]
		fmt.Fprintf(a.out, "%s %s %s\n", mark, c.Kind, clean(c.Name))
		for _, d := range c.Fields {
			if c.Action == "update" && d.From != nil {
				fmt.Fprintf(a.out, "    - %s: %s\n", d.Field, clean(text(d.From)))
			}
			if d.To != nil {
				fmt.Fprintf(a.out, "    + %s: %s\n", d.Field, clean(text(d.To)))
			}
		}
	}
}

func (a *app) applied(plan []*change, done bool) error {
	if a.json {
		if plan == nil {
			plan = []*change{}
		}
		return a.document("apply/v1", map[string]any{"changes": plan, "applied": done})
	}
	switch n := count(plan); {
	case n == 0:
		a.say("Everything is as the file says.")
	case done:
		a.say("Done: %s.", changes(n))
	default:
		a.say("Nothing was changed; %s to make.", changes(n))
	}
	return nil
}

func changes(n int) string {
	if n == 1 {
		return "1 change"
	}
	return fmt.Sprintf("%d changes", n)
}

// confirm asks the person who is there; a file that comes in by standard input
// leaves nobody to ask.
func (a *app) confirm(n int, yes bool, file string) error {
	fix := "countersign apply -f " + file + " --yes"
	if file == "-" && !yes {
		return nobodyAsked(fix)
	}
	return a.agreed(yes, fmt.Sprintf("Make %s?", changes(n)), fix)
}

// carryOut makes the changes: resources, clients, and then the servers of
// resources that are clients made just now.
func (x *api) carryOut(ctx context.Context, plan []*change, v *vault) error {
	made := map[string]bool{}
	for _, c := range plan {
		if c.Kind == "client" && c.Action == "create" {
			made[c.Name] = true
		}
	}
	var late []*change
	for _, c := range plan {
		if c.Action == "none" {
			continue
		}
		want := c.want
		if servers, ok := want["servers"].([]any); ok && slices.ContainsFunc(servers, func(s any) bool { n, _ := s.(string); return made[n] }) {
			want = clone(want)
			want["servers"] = slices.DeleteFunc(slices.Clone(servers), func(s any) bool { n, _ := s.(string); return made[n] })
			late = append(late, c)
		}
		if err := x.put(ctx, c, want, v); err != nil {
			return err
		}
	}
	for _, c := range late {
		again := *c
		if err := x.compare(ctx, &again); err != nil {
			return err
		}
		if err := x.put(ctx, &again, c.want, v); err != nil {
			return err
		}
	}
	return nil
}

func clone(o object) object {
	out := object{}
	for k, v := range o {
		out[k] = v
	}
	return out
}

// put makes or updates one object. An update carries what is there, with the
// file's members in their places, and holds only if nobody changed it since.
func (x *api) put(ctx context.Context, c *change, want object, v *vault) error {
	if c.path == "" {
		r, err := x.do(ctx, http.MethodPost, "/"+c.Kind+"s", want, "")
		if err != nil {
			return named(err, c)
		}
		var made struct {
			ID      string `json:"id"`
			Secret  string `json:"client_secret"`
			Webhook string `json:"secret"`
		}
		if err := json.Unmarshal(r.body, &made); err != nil {
			return &failure{exit: exitError, code: "bad_answer", message: "The server's " + c.Kind + " cannot be read."}
		}
		if c.path = "/clients/" + url.PathEscape(c.Name); c.Kind != "client" {
			c.path = "/" + c.Kind + "s/" + url.PathEscape(made.ID)
		}
		return v.keep(c, made.Secret+made.Webhook)
	}
	body := object{}
	for _, name := range writable[c.Kind] {
		if value, ok := c.have[name]; ok && value != nil {
			body[name] = value
		}
	}
	// Whether a client is native follows from its redirect URIs, unless said.
	if native, ok := c.have["native"]; ok && want["redirect_uris"] == nil {
		body["native"] = native
	}
	for name, value := range want {
		body[name] = value
	}
	r, err := x.do(ctx, http.MethodPut, c.path, body, c.etag)
	if err != nil {
		return named(err, c)
	}
	var now struct {
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal(r.body, &now); err != nil {
		return &failure{exit: exitError, code: "bad_answer", message: "The server's " + c.Kind + " cannot be read."}
	}
	return v.keep(c, now.Secret)
}

// named says which object a refusal is about.
func named(err error, c *change) error {
	var f *failure
	if errors.As(err, &f) {
		g := *f
		g.message = c.Kind + " " + c.Name + ": " + f.message
		if g.code == "http_412" || g.code == "precondition_failed" {
			g.fix = "run the command again: it was changed meanwhile"
		}
		return &g
	}
	return err
}

// vault is the file that new clients' secrets go to: they are told once, and
// never to the terminal.
type vault struct {
	file *os.File
	keys map[string]map[string]string // by kind and name
}

// openVault makes the file before anything is changed, if a secret will come.
func openVault(plan []*change, path string) (*vault, error) {
	v := &vault{keys: map[string]map[string]string{}}
	for _, c := range plan {
		if c.givesSecret() && path == "" {
			return nil, &failure{
				exit: exitUsage, code: "secrets_file_needed", message: "The " + c.Kind + " " + c.Name + " will get a secret, which is told only once.",
				fix: "add --secrets-file FILE",
			}
		}
	}
	if path == "" {
		return v, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, usage("The secrets file cannot be made: %v.", err)
	}
	v.file = f
	return v, nil
}

// givesSecret reports whether the change makes a secret that is told once.
func (c *change) givesSecret() bool {
	if c.Kind == "webhook" {
		return c.Action == "create"
	}
	return c.Kind == "client" && c.Action != "none" && secretive(c.want) && !secretive(c.have)
}

// secretive reports whether a client authenticates by a secret.
func secretive(o object) bool {
	method, _ := o["auth_method"].(string)
	return strings.HasPrefix(method, "client_secret")
}

// keep writes a secret to the disk at once: what follows may fail.
func (v *vault) keep(c *change, secret string) error {
	if secret == "" || v.file == nil {
		return nil
	}
	if v.keys[c.Kind] == nil {
		v.keys[c.Kind] = map[string]string{}
	}
	v.keys[c.Kind][c.Name] = secret
	doc := map[string]any{"version": 1}
	for kind, keys := range v.keys {
		doc[kind+"_secrets"] = keys
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	if _, err := v.file.WriteAt(append(text, '\n'), 0); err != nil { // it only grows
		return fmt.Errorf("the secret of %s could not be kept: %w", c.Name, err)
	}
	return v.file.Sync()
}

// close keeps the file if a secret is in it.
func (v *vault) close() error {
	if v.file == nil {
		return nil
	}
	err := v.file.Close()
	if len(v.keys) == 0 {
		err = errors.Join(err, os.Remove(v.file.Name()))
	}
	return err
}
