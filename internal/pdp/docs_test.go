package pdp_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// block is the nth block of code of a language in a page.
func block(t *testing.T, page, lang string, n int) string {
	t.Helper()
	all := regexp.MustCompile("(?s)```"+lang+"\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(all) <= n {
		t.Fatalf("the page has no block %d of %s", n, lang)
	}
	return all[n][1]
}

// TestPageOfResourceServers does what the page says: its policies are published, its
// question is asked with an old sign-in, and its answer is what comes. What it says of the
// SDK is what compiles in the SDK's example.
func TestPageOfResourceServers(t *testing.T) {
	text, err := os.ReadFile("../../docs/connect/resource-server.md")
	ok(t, err)
	page := string(text)
	var apps struct {
		Resources []struct {
			URI     string
			Servers []string
		}
		Clients []struct {
			ClientID string `yaml:"client_id"`
			Scopes   []string
		}
	}
	ok(t, yaml.Unmarshal([]byte(block(t, page, "yaml", 0)), &apps))
	if apps.Resources[0].URI != deploy || apps.Resources[0].Servers[0] != apps.Clients[0].ClientID || apps.Clients[0].Scopes[0] != "feed" {
		t.Errorf("%+v", apps)
	}
	p := open(t)
	p.publish(block(t, page, "cedarschema", 0), block(t, page, "cedar", 0))
	p.token(deploy, "use") // consents, and signs in
	p.ahead.Store(int64(10 * time.Minute))
	token := p.token(deploy, "use")
	request := strings.NewReplacer("SUB", subjectOf(t, token), "TOKEN", token).Replace(block(t, page, "json", 0))
	var have, want any
	ok(t, json.Unmarshal([]byte(p.post("deploy-api", "/access/v1/evaluation", request).text), &have))
	ok(t, json.Unmarshal([]byte(block(t, page, "json", 1)), &want))
	if d := cmp.Diff(unreferenced(t, want), unreferenced(t, have)); d != "" {
		t.Error(d)
	}
	if d := p.post("deploy-api", "/access/v1/evaluation", strings.Replace(request, "cluster.deploy", "cluster.read", 1)).decided(t); !d.Decision {
		t.Errorf("%v", d)
	}
	example, err := os.ReadFile("../../pep/example_test.go")
	ok(t, err)
	if flat := strings.ReplaceAll(string(example), "\n\t\t", "\n"); !strings.Contains(flat, block(t, page, "go", 0)) {
		t.Error("the page and the example of package pep differ")
	}
}
