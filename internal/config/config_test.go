package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExampleLoads(t *testing.T) {
	c, err := Read("example.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.RPID != "id.example.com" || c.Database.MaxConnections != 16 || c.Log.Level != "info" {
		t.Errorf("defaults: %+v", c)
	}
}

func TestEnvironmentOverrides(t *testing.T) {
	c, err := Read("example.yaml", []string{
		"COUNTERSIGN_ISSUER=https://other.example.com", "COUNTERSIGN_LISTEN_ADDRESS=127.0.0.1:1", "COUNTERSIGN_EGRESS_ALLOW=a:1, b:2",
		"COUNTERSIGN_DATABASE_MAX_CONNECTIONS=3", "COUNTERSIGN_TOKEN=x", "PATH=/bin",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Issuer != "https://other.example.com" || c.Listen.Address != "127.0.0.1:1" || len(c.Egress.Allow) != 2 || c.Database.MaxConnections != 3 || c.RPID != "other.example.com" {
		t.Errorf("%+v", c)
	}
	_, err = Read("example.yaml", []string{"COUNTERSIGN_ISSUERR=x", "COUNTERSIGN_DATABASE_MAX_CONNECTIONS=many", "COUNTERSIGN_DEVELOPMENT=perhaps"})
	for _, want := range []string{"COUNTERSIGN_ISSUERR: the configuration has no such key", `a number, not "many"`, `true or false, not "perhaps"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in: %v", want, err)
		}
	}
}

func TestEveryFaultAtOnceWithItsLine(t *testing.T) {
	_, err := Parse([]byte(`issuer: http://id.example.com/path
listen:
  address: nonsense
database:
  sqlite: a
  postgres: b
proxy:
  trusted: ["10.0.0.0/8", "*"]
log:
  level: loud
development: true
`), nil)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"line 1: issuer: must be https", `line 3: listen.address: "nonsense"`, "line 4: database: set exactly one", `line 8: proxy.trusted: "10.0.0.0/8"`,
		`line 8: proxy.trusted: "*"`, "proxy.header: say which", "line 10: log.level:", "data_dir: say where", "line 11: development: works on a loopback",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in:\n%v", want, err)
		}
	}
}

// TestMisreadKeysDoNotHideTheRest: unknown keys and values of the wrong kind are
// told together with everything else, and once.
func TestMisreadKeysDoNotHideTheRest(t *testing.T) {
	_, err := Parse([]byte(`issuer: http://id.example.com
listen: 5
nope: 1
database:
  sqlite: [a]
  max_connections: many
  postgress: x
development: perhaps
proxy:
  trusted: "*"
log:
  level: loud
`), nil)
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	for _, want := range []string{
		"line 1: issuer: must be https", "line 2: listen: is a group of keys", "line 3: nope: there is no such key", "line 5: database.sqlite: is text",
		"line 6: database.max_connections: is a whole number", "line 7: database.postgress: there is no such key", "line 8: development: is true or false",
		"line 10: proxy.trusted: is a list", "line 12: log.level:", "data_dir: say where",
	} {
		n := 0
		for _, l := range lines {
			if strings.HasPrefix(l, want) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%q is told %d times in:\n%v", want, n, err)
		}
	}
	if len(lines) != 10 {
		t.Errorf("%d faults:\n%v", len(lines), err)
	}
	for _, text := range []string{"a: [", "issuer: x\nissuer: y\n", "- a\n", "just text", "a: 1\n---\nb: 2\n"} {
		if _, err := Parse([]byte(text), nil); err == nil {
			t.Errorf("accepted %q", text)
		}
	}
}

func TestIssuer(t *testing.T) {
	for in, ok := range map[string]bool{
		"https://id.example.com": true, "https://id.example.com:8443": true, "http://localhost:8080": true,
		"http://127.0.0.1:8080": false, "https://id.example.com/": false, "https://ID.example.com": false, "": false,
		"https://id.example.com?x": false, "https://u@id.example.com": false, "ftp://id.example.com": false, "http://id.example.com": false,
	} {
		_, err := Parse([]byte("listen: {address: ':1'}\ndatabase: {sqlite: x}\ndata_dir: d\nissuer: '"+in+"'\n"), nil)
		if (err == nil) != ok {
			t.Errorf("issuer %q: %v", in, err)
		}
	}
}

func TestUnknownKeyAndSecretFile(t *testing.T) {
	if _, err := Parse([]byte("issuer: https://a.example\nlissten: {}\n"), nil); err == nil || !strings.Contains(err.Error(), "lissten") {
		t.Errorf("unknown key: %v", err)
	}
	p := filepath.Join(t.TempDir(), "dsn")
	os.WriteFile(p, []byte("postgres://db\n"), 0o600)
	base := "issuer: https://a.example\nlisten: {address: ':1'}\ndata_dir: d\ndatabase:\n  postgres_file: " + p + "\n"
	c, err := Parse([]byte(base), nil)
	if err != nil || c.Database.Postgres != "postgres://db" {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := Parse([]byte(base+"  postgres: x\n"), nil); err == nil || !strings.Contains(err.Error(), "not both") {
		t.Errorf("both: %v", err)
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("a missing file was read")
	}
}
