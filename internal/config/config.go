// Package config reads what starts the process: listeners, database, keys,
// issuer, egress. Everything else is state (contract). One struct, one file,
// strict; the environment overrides; every fault is reported at once, with its
// line.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/recovery"
)

// Config is the configuration of a server.
type Config struct {
	// Issuer is the https origin under which everything is served; http only for
	// loopback. It is in every token, and passkeys work for its host only: choose
	// it once.
	Issuer string `yaml:"issuer"`
	// RPID is the WebAuthn relying party id: the issuer's host, or a parent domain.
	RPID string `yaml:"rp_id,omitempty"`

	Listen     Listen     `yaml:"listen"`
	MTLS       MTLS       `yaml:"mtls,omitempty"`
	Operations Operations `yaml:"operations,omitempty"`
	Database   Database   `yaml:"database"`
	Keys       Keys       `yaml:"keys"`
	Proxy      Proxy      `yaml:"proxy,omitempty"`
	Egress     Egress     `yaml:"egress,omitempty"`
	Mail       Mail       `yaml:"mail,omitempty"`
	Passwords  Passwords  `yaml:"passwords,omitempty"`
	Log        Log        `yaml:"log,omitempty"`
	Recovery   Recovery   `yaml:"recovery,omitempty"`
	Witness    Witness    `yaml:"witness,omitempty"`
	Risk       Risk       `yaml:"risk,omitempty"`
	Devices    Devices    `yaml:"devices,omitempty"`

	DeviceAuthorization DeviceAuthorization `yaml:"device_authorization,omitempty"`
	Backchannel         Backchannel         `yaml:"backchannel_authentication,omitempty"`

	// DataDir holds the side files: anchor, setup link, checkpoints.
	DataDir string `yaml:"data_dir"`
	// Development relaxes exactly what mechanisms I22 lists, on loopback only.
	Development bool `yaml:"development,omitempty"`
}

// Listen is the public listener.
type Listen struct {
	Address string `yaml:"address"` // host:port
	TLS     TLS    `yaml:"tls,omitempty"`
}

// TLS names the certificate files; they are read again when they change.
type TLS struct {
	CertFile string `yaml:"cert_file,omitempty"`
	KeyFile  string `yaml:"key_file,omitempty"`
}

// Operations is the listener for health, readiness, metrics and profiles, and
// nothing else.
type Operations struct {
	Address string `yaml:"address,omitempty"` // "": none
}

// Database says where state is kept: exactly one of the two.
type Database struct {
	SQLite   string `yaml:"sqlite,omitempty"`   // path of the file
	Postgres string `yaml:"postgres,omitempty"` // connection string
	// PostgresFile holds the connection string instead.
	PostgresFile string `yaml:"postgres_file,omitempty"`
	// MaxConnections of the PostgreSQL pool; 0: 16.
	MaxConnections int `yaml:"max_connections,omitempty"`
	// AcceptDataLossOnFailover permits synchronous_commit off and asynchronous
	// standbys: then every failover is a restore (mechanisms I16).
	AcceptDataLossOnFailover bool `yaml:"accept_data_loss_on_failover,omitempty"`
}

// Keys says where the key-encryption key is.
type Keys struct {
	KEKFile string `yaml:"kek_file"` // a 0600 file; made on a first start with an empty database
}

// Proxy says which hops in front are trusted; by default none is (mechanisms I17).
type Proxy struct {
	Trusted []string `yaml:"trusted,omitempty"` // single addresses, or "unix"
	Header  string   `yaml:"header,omitempty"`  // "Forwarded" or "X-Forwarded-For"
}

// Egress is how the server reaches out (security, invariant 7). The proxy of the
// environment is never used.
type Egress struct {
	Proxy   string   `yaml:"proxy,omitempty"`
	CAFiles []string `yaml:"ca_files,omitempty"`
	Allow   []string `yaml:"allow,omitempty"` // host:port that need not be public
}

// Mail is the relay that takes the deployment's mail; without a host none is
// sent, and recovery and notices say so.
type Mail struct {
	Host string `yaml:"host,omitempty"`
	Port int    `yaml:"port,omitempty"` // 0: 587, or 465 with implicit TLS
	// TLS is starttls (default: required, a relay without it gets nothing),
	// implicit, or none, which only a relay on this machine may have.
	TLS          string `yaml:"tls,omitempty"`
	Username     string `yaml:"username,omitempty"`
	Password     string `yaml:"password,omitempty"`
	PasswordFile string `yaml:"password_file,omitempty"`
	From         string `yaml:"from,omitempty"` // address, with a name if wanted
	ReplyTo      string `yaml:"reply_to,omitempty"`
}

// Recovery says how long recovering an account takes, within limits that keep it
// harder than signing in.
type Recovery struct {
	Wait      time.Duration `yaml:"wait,omitempty"`      // before a recovery with a code can be finished; 0: 24h
	Probation time.Duration `yaml:"probation,omitempty"` // of a passkey made by a recovery; 0: 72h
}

// DeviceAuthorization is signing in, with a code, a device that has no browser
// (RFC 8628). Off unless it is enabled: codes can be sent to others (RFC 10027).
type DeviceAuthorization struct {
	Enabled bool `yaml:"enabled,omitempty"`
	// SameNetwork refuses where device and browser are on different networks.
	SameNetwork bool `yaml:"same_network,omitempty"`
}

// Backchannel is clients' asking people who are elsewhere (OpenID Connect CIBA). Off
// unless it is enabled: whoever may ask can ask until somebody gives in (RFC 10027).
type Backchannel struct {
	Enabled bool `yaml:"enabled,omitempty"`
}

// Passwords is what people may not choose as one, beside what the release knows.
type Passwords struct {
	BlockedFile string `yaml:"blocked_file,omitempty"` // a password a line
}

// Witness says who watches the audit log from outside (mechanisms E11).
type Witness struct {
	// PolicyFile is a C2SP tlog-policy: witnesses with their URLs, and the quorum.
	PolicyFile string `yaml:"policy_file,omitempty"`
	// Files take the newest checkpoint each minute: on a disk of another machine.
	Files []string `yaml:"files,omitempty"`
	// Git are remotes that take it as a commit, never rewritten.
	Git []string `yaml:"git,omitempty"`
}

// Log is how the process logs.
type Log struct {
	Format string `yaml:"format,omitempty"` // json (default) or text
	Level  string `yaml:"level,omitempty"`  // debug, info (default), warn, error
}

// secretField is a string that a file may hold instead.
type secretField struct {
	value *string
	file  *string
	name  string
}

// Read reads the file, then the environment (COUNTERSIGN_ISSUER,
// COUNTERSIGN_DATABASE_POSTGRES, …), then the files that hold secrets, and
// checks everything. Unknown keys are errors. All faults come at once.
func Read(path string, env []string) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c, err := Parse(b, env)
	if err != nil {
		return nil, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return c, nil
}

// Parse is Read for bytes.
func Parse(b []byte, env []string) (*Config, error) {
	c := &Config{}
	misread := decode(b, c)
	faults := append(slices.Clone(misread), override(c, env)...)
	for _, s := range []secretField{
		{&c.Database.Postgres, &c.Database.PostgresFile, "database.postgres"},
		{&c.Mail.Password, &c.Mail.PasswordFile, "mail.password"},
	} {
		if *s.file == "" {
			continue
		}
		if *s.value != "" {
			faults = append(faults, fmt.Errorf("%s: set it or %s_file, not both", s.name, s.name))
			continue
		}
		v, err := os.ReadFile(*s.file)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s_file: %w", s.name, err))
			continue
		}
		*s.value = strings.TrimSpace(string(v))
	}
	c.defaults()
	for _, f := range c.check() {
		if !within(misread, f) {
			faults = append(faults, f)
		}
	}
	if len(faults) > 0 {
		for i, f := range faults {
			faults[i] = located(b, f)
		}
		return nil, errors.Join(faults...)
	}
	return c, nil
}

func (c *Config) defaults() {
	if u, err := url.Parse(c.Issuer); err == nil && c.RPID == "" {
		c.RPID = u.Hostname()
	}
	if c.Database.MaxConnections == 0 {
		c.Database.MaxConnections = 16
	}
	if c.Keys.KEKFile == "" && c.DataDir != "" {
		c.Keys.KEKFile = filepath.Join(c.DataDir, "kek.json")
	}
	c.Mail.defaults()
	if c.Log.Format == "" {
		c.Log.Format = "json"
	}
	if c.Log.Level == "" {
		c.Log.Level = "info"
	}
}

// fault is a fault of one key.
type fault struct{ key, text string }

func (f fault) Error() string { return f.key + ": " + f.text }

// located adds the line of a fault's key, if the file has it.
func located(b []byte, err error) error {
	var f fault
	if !errors.As(err, &f) {
		return err
	}
	want := strings.Split(f.key, ".")
	depth := 0
	for i, line := range strings.Split(string(b), "\n") {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		name, _, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if depth < len(want) && name == want[depth] && (indent > 0) == (depth > 0) {
			if depth++; depth == len(want) {
				return fmt.Errorf("line %d: %w", i+1, err)
			}
		}
	}
	return err
}

func (c *Config) check() []error {
	var out []error
	bad := func(key, format string, args ...any) { out = append(out, fault{key, fmt.Sprintf(format, args...)}) }
	loopback := c.checkIssuer(bad)
	if c.Listen.Address == "" {
		bad("listen.address", "say where to listen, e.g. 0.0.0.0:8443")
	} else if _, _, err := net.SplitHostPort(c.Listen.Address); err != nil {
		bad("listen.address", "%q is not host:port", c.Listen.Address)
	}
	if (c.Listen.TLS.CertFile == "") != (c.Listen.TLS.KeyFile == "") {
		bad("listen.tls", "cert_file and key_file go together")
	}
	c.MTLS.check(c, bad)
	if c.Operations.Address != "" {
		if _, _, err := net.SplitHostPort(c.Operations.Address); err != nil {
			bad("operations.address", "%q is not host:port", c.Operations.Address)
		}
	}
	if (c.Database.SQLite == "") == (c.Database.Postgres == "") {
		bad("database", "set exactly one of sqlite and postgres")
	}
	for _, p := range []string{c.Database.Postgres, c.Database.SQLite, c.Issuer} {
		if strings.Contains(p, "CHANGE-ME") || strings.Contains(p, "changeme") {
			bad("database", "a placeholder is still in the configuration")
		}
	}
	if c.DataDir == "" {
		bad("data_dir", "say where the side files go, e.g. /var/lib/countersign")
	}
	c.checkProxy(bad)
	if key, fault := recovery.Settings(c.Recovery).Check(); key != "" {
		bad("recovery."+key, "%s", fault)
	}
	if c.Egress.Proxy != "" {
		if u, err := url.Parse(c.Egress.Proxy); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			bad("egress.proxy", "%q is not an http or https URL", c.Egress.Proxy)
		}
	}
	c.Mail.check(bad)
	c.Risk.check(bad)
	if c.Log.Format != "json" && c.Log.Format != "text" {
		bad("log.format", "json or text, not %q", c.Log.Format)
	}
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		bad("log.level", "debug, info, warn or error, not %q", c.Log.Level)
	}
	if c.Development && !loopback {
		bad("development", "works on a loopback issuer only")
	}
	return out
}

// checkIssuer checks issuer and rp_id; it reports whether the issuer is loopback.
func (c *Config) checkIssuer(bad func(string, string, ...any)) bool {
	u, err := url.Parse(c.Issuer)
	if err != nil || c.Issuer == "" || u.Host == "" {
		bad("issuer", "give the https origin of this server, e.g. https://id.example.com")
		return false
	}
	host := u.Hostname()
	loopback := host == "localhost" || strings.HasSuffix(host, ".localhost")
	if a, err := netip.ParseAddr(host); err == nil {
		loopback = a.IsLoopback()
		bad("issuer", "needs a host name: passkeys do not work on an address (use http://localhost:PORT on this machine)")
	}
	switch {
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback):
		bad("issuer", "must be https (http only for localhost)")
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.HasSuffix(c.Issuer, "#") || strings.HasSuffix(c.Issuer, "?"):
		bad("issuer", "is an origin: scheme, host and port, with nothing behind it (not even a slash)")
	case strings.ToLower(c.Issuer) != c.Issuer:
		bad("issuer", "is written in lower case")
	}
	if c.RPID != host && !strings.HasSuffix(host, "."+c.RPID) || c.RPID == "" || !loopback && !strings.Contains(c.RPID, ".") {
		bad("rp_id", "%q is neither the issuer's host nor a parent domain of it", c.RPID)
	}
	return loopback
}

// CheckIssuer says whether an issuer and its relying party id could be in a
// configuration, as Read would; rpID "" is the issuer's host. It gives the
// relying party id, and whether the issuer is a loopback one.
func CheckIssuer(issuer, rpID string) (rp string, loopback bool, err error) {
	c := &Config{Issuer: issuer, RPID: rpID}
	c.defaults()
	var faults []error
	loopback = c.checkIssuer(func(key, format string, args ...any) {
		faults = append(faults, fault{key, fmt.Sprintf(format, args...)})
	})
	return c.RPID, loopback, errors.Join(faults...)
}

// checkProxy checks the trusted hops: single addresses and Unix sockets only
// (mechanisms I17).
func (c *Config) checkProxy(bad func(string, string, ...any)) {
	for _, t := range c.Proxy.Trusted {
		if t == "unix" {
			continue
		}
		a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimSuffix(t, "/32"), "/128"))
		if err != nil || !a.IsValid() {
			bad("proxy.trusted", "%q is not a single address: a range means every machine in it can forge addresses", t)
		}
	}
	switch c.Proxy.Header {
	case "Forwarded", "X-Forwarded-For":
	case "":
		if len(c.Proxy.Trusted) > 0 {
			bad("proxy.header", "say which header the proxy sets: Forwarded or X-Forwarded-For")
		}
	default:
		bad("proxy.header", "Forwarded or X-Forwarded-For, not %q", c.Proxy.Header)
	}
}

// ShutdownGrace is how long requests under way may take when the server stops.
const ShutdownGrace = 10 * time.Second
