// Package tools is an example of an MCP server that takes its tokens from
// Countersign: reading needs a scope, deploying needs another one, which is asked
// for only when the tool is called. Everything about tokens is the SDK's.
package tools

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	countersign "github.com/countersign-dev/countersign"
)

// The scopes of this server, as it is registered at the issuer.
const (
	ScopeUse    = "tools:use"
	ScopeDeploy = "tools:deploy"
)

// maxMessage is the most that a message may be.
const maxMessage = 1 << 20

// Handler serves MCP at the path of the verifier's audience, and the metadata
// that tells clients where to get a token (RFC 9728).
func Handler(v *countersign.Verifier, path string) http.Handler {
	mux := http.NewServeMux()
	v.MountMetadata(mux, countersign.ResourceMetadata{Name: "Sample tools", Scopes: []string{ScopeUse}})
	// Each request has a server of its own, which knows whose request it is.
	serve := mcp.NewStreamableHTTPHandler(func(r *http.Request) *mcp.Server { return server(countersign.TokenFrom(r.Context())) },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})
	use := v.Protect(serve, countersign.RequireScope(ScopeUse))
	deploy := v.Protect(serve, countersign.RequireScope(ScopeUse, ScopeDeploy), countersign.Sensitive())
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
		if err != nil {
			http.Error(w, "the message is too large", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if called(body) == "deploy" {
			deploy.ServeHTTP(w, r)
			return
		}
		use.ServeHTTP(w, r)
	})
	return mux
}

// called is the tool that a message calls. It decides only which challenge a
// client gets: the tool itself looks at the token again.
func called(body []byte) string {
	var m struct {
		Method string `json:"method"`
		Params struct {
			Name string `json:"name"`
		} `json:"params"`
	}
	if json.Unmarshal(body, &m) != nil || m.Method != "tools/call" {
		return ""
	}
	return m.Params.Name
}

// server has the tools of one request.
func server(t *countersign.Token) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "sample-tools", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "whoami", Description: "Says who is asking"},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			return text(t.Subject), nil, nil
		})
	mcp.AddTool(s, &mcp.Tool{Name: "deploy", Description: "Deploys"},
		func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
			if !t.HasScope(ScopeDeploy) {
				r := text("This needs the scope " + ScopeDeploy + ".")
				r.IsError = true
				return r, nil, nil
			}
			return text("Deployed."), nil, nil
		})
	return s
}

func text(s string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: s}}}
}
