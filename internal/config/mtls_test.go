package config

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestMTLS(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no.pem")
	print := strings.Repeat("ab", 32)
	const base = "issuer: https://id.example.com\nlisten: {address: ':1', tls: {cert_file: c, key_file: k}}\ndatabase: {sqlite: x}\ndata_dir: d\n"
	for name, c := range map[string]struct {
		text, want string
	}{
		"whole":              {"mtls: {address: ':2', url: https://mtls.example.com, proxies: [" + print + "]}", ""},
		"with colons":        {"mtls: {address: ':2', url: 'https://mtls.example.com:8444', proxies: ['" + strings.TrimSuffix(strings.Repeat("AB:", 32), ":") + "']}", ""},
		"a socket":           {"mtls: {address: 'unix:/run/c.sock', url: https://mtls.example.com, proxies: [unix]}", ""},
		"no address":         {"mtls: {url: https://mtls.example.com}", "mtls.address: say where"},
		"a port alone":       {"mtls: {address: '8444', url: https://mtls.example.com}", "mtls.address: \"8444\" is neither"},
		"no URL":             {"mtls: {address: ':2'}", "mtls.url: give the https origin"},
		"a URL with a path":  {"mtls: {address: ':2', url: https://mtls.example.com/}", "mtls.url: give"},
		"plain http":         {"mtls: {address: ':2', url: http://mtls.example.com}", "mtls.url: give"},
		"the issuer":         {"mtls: {address: ':2', url: https://id.example.com}", "mtls.url: is another origin"},
		"half a key pair":    {"mtls: {address: ':2', url: https://m.example.com, tls: {cert_file: a}}", "mtls.tls: cert_file and key_file"},
		"an address":         {"mtls: {address: ':2', url: https://m.example.com, proxies: [10.0.0.5]}", "mtls.proxies: \"10.0.0.5\" is neither"},
		"everybody":          {"mtls: {address: ':2', url: https://m.example.com, proxies: ['*']}", "mtls.proxies: \"*\" is neither"},
		"unix without one":   {"mtls: {address: ':2', url: https://m.example.com, proxies: [unix]}", "mtls.proxies: \"unix\" needs"},
		"a socket for none":  {"mtls: {address: 'unix:/run/c.sock', url: https://m.example.com}", "mtls.proxies: over a socket"},
		"no such authority":  {"mtls: {address: ':2', url: https://m.example.com, client_cas: [" + missing + "]}", "mtls.client_cas: open"},
		"no authority in it": {"mtls: {address: ':2', url: https://m.example.com, client_cas: [example.yaml]}", "mtls.client_cas: example.yaml has no certificate"},
	} {
		cfg, err := Parse([]byte(base+c.text), nil)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if name == "with colons" && (len(cfg.MTLS.Fingerprints()) != 1 || cfg.MTLS.Fingerprints()[0][31] != 0xab) {
			t.Errorf("%s: %v", name, cfg.MTLS.Fingerprints())
		}
	}
	_, err := Parse([]byte("issuer: https://id.example.com\nlisten: {address: ':1'}\ndatabase: {sqlite: x}\ndata_dir: d\nmtls: {address: ':2', url: https://m.example.com}"), nil)
	if err == nil || !strings.Contains(err.Error(), "mtls.tls: a certificate is needed") {
		t.Errorf("without TLS: %v", err)
	}
}
