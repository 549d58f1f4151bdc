package server

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// mostBody bounds the body of an identity request, which is one short form field.
const mostBody = 4 << 10

// backdate is how far nbf lies before iat, so that a verifier whose clock is a
// little behind does not refuse a fresh token.
const backdate = 30 * time.Second

// claims is a token's payload. aud is one text: a token is for one reader.
type claims struct {
	Issuer      string `json:"iss"`
	Subject     string `json:"sub"`
	Audience    string `json:"aud"`
	IssuedAt    int64  `json:"iat"`
	NotBefore   int64  `json:"nbf"`
	Expires     int64  `json:"exp"`
	ID          string `json:"jti"`
	UUID        string `json:"vm_uuid"`
	Node        string `json:"node"`
	Site        string `json:"site,omitempty"`
	Datacenter  string `json:"dc,omitempty"`
	Role        string `json:"role,omitempty"`
	Environment string `json:"env,omitempty"`
}

// refusal is an answer without a token.
type refusal struct {
	status    int
	what, fix string
}

// identity answers POST /v1/identity.
func (s *Server) identity(writer http.ResponseWriter, request *http.Request) {
	for _, check := range []func(*http.Request) *refusal{s.checkHost, checkForwarded, checkGuard} {
		if refused := check(request); refused != nil {
			s.refuse(writer, request, refused)
			return
		}
	}
	machine, refused := s.caller(request)
	if refused != nil {
		s.refuse(writer, request, refused)
		return
	}
	audience, refused := s.audience(writer, request)
	if refused != nil {
		s.refuse(writer, request, refused)
		return
	}
	now := s.settings.Now()
	expires := now.Add(s.settings.TTL)
	payload := claims{
		Issuer: s.settings.Issuer, Subject: "vm:" + machine.UUID, Audience: audience,
		IssuedAt: now.Unix(), NotBefore: now.Add(-backdate).Unix(), Expires: expires.Unix(), ID: rand.Text(),
		UUID: machine.UUID, Node: machine.Node, Site: machine.Site, Datacenter: machine.Datacenter,
		Role: machine.Role, Environment: machine.Environment,
	}
	token, err := jwt.Signed(s.signer).Claims(payload).Serialize()
	if err != nil {
		s.settings.Log.Error("signing failed", "error", err)
		s.answer(writer, http.StatusInternalServerError, map[string]string{"error": "signing failed", "fix": "read the service's log"})
		return
	}
	// The audit line: who got a token, by its id and never by its text.
	s.settings.Log.Info("issued", "jti", payload.ID, "vm_uuid", machine.UUID, "node", machine.Node,
		"audience", audience, "source", request.RemoteAddr, "expires", expires.UTC().Format(time.RFC3339))
	s.answer(writer, http.StatusOK, map[string]any{"jwt": token, "expires_in": int(s.settings.TTL.Seconds())})
}

// checkHost refuses a request for a host that is not us: a name that somebody
// made to resolve to our address.
func (s *Server) checkHost(request *http.Request) *refusal {
	known := []string{s.settings.Listen, s.issuerHost}
	if local, ok := request.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		known = append(known, local.String())
	}
	for _, host := range known {
		bare, isDefault := strings.CutSuffix(host, ":80")
		if strings.EqualFold(request.Host, host) || isDefault && request.Host == bare {
			return nil
		}
	}
	return &refusal{http.StatusMisdirectedRequest, "host " + quote(request.Host) + " is not this service", "ask at its own address"}
}

// forwarders are headers that only something between the VM and us would add.
var forwarders = []string{"Forwarded", "Via", "Origin", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url", "X-Client-Ip", "True-Client-Ip"}

// checkForwarded refuses what came through a proxy or out of a web page: its
// source address is not its own.
func checkForwarded(request *http.Request) *refusal {
	for name := range request.Header {
		if strings.HasPrefix(name, "X-Forwarded") || slices.Contains(forwarders, name) {
			return &refusal{http.StatusForbidden, "the request was forwarded: it has " + quote(name), "ask directly, without a proxy"}
		}
	}
	return nil
}

func checkGuard(request *http.Request) *refusal {
	if values := request.Header.Values(GuardHeader); len(values) != 1 || values[0] != GuardValue {
		return &refusal{http.StatusForbidden, "the guard header is missing or wrong", "send " + GuardHeader + ": " + GuardValue}
	}
	return nil
}

// caller finds the VM by the address the request comes from.
func (s *Server) caller(request *http.Request) (Machine, *refusal) {
	source, err := netip.ParseAddrPort(request.RemoteAddr)
	if err != nil {
		return Machine{}, &refusal{http.StatusForbidden, "the source has no address", "ask over TCP"}
	}
	machine, found := s.inventory.Load().Find(source.Addr())
	if !found {
		return Machine{}, &refusal{http.StatusForbidden, "no machine has the address " + source.Addr().String(), "add it to the inventory and send the service SIGHUP"}
	}
	return machine, nil
}

// audience reads the one parameter there is, from the query or the form.
func (s *Server) audience(writer http.ResponseWriter, request *http.Request) (string, *refusal) {
	request.Body = http.MaxBytesReader(writer, request.Body, mostBody)
	kind := request.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(kind); kind != "" && (err != nil || media != "application/x-www-form-urlencoded") {
		return "", &refusal{http.StatusUnsupportedMediaType, "content type " + quote(kind) + " is not a form", "send application/x-www-form-urlencoded"}
	}
	err := request.ParseForm()
	var tooLarge *http.MaxBytesError
	var values url.Values = request.Form
	switch {
	case errors.As(err, &tooLarge):
		return "", &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", mostBody), "send audience=NAME and nothing else"}
	case err != nil:
		return "", &refusal{http.StatusBadRequest, "the query or the body is not a form", "send audience=NAME"}
	case kind == "" && !bodyEmpty(request):
		return "", &refusal{http.StatusUnsupportedMediaType, "the body has no content type", "send application/x-www-form-urlencoded"}
	case len(values["audience"]) != 1 || len(values) != 1:
		return "", &refusal{http.StatusBadRequest, "want one audience and nothing else", "send audience=NAME, once"}
	case !slices.Contains(s.settings.Audiences, values.Get("audience")):
		return "", &refusal{http.StatusBadRequest, "audience " + quote(values.Get("audience")) + " is not on the list", "ask for one the service was started with, or add --audience there"}
	}
	return values.Get("audience"), nil
}

// bodyEmpty reads one byte of what ParseForm left alone.
func bodyEmpty(request *http.Request) bool {
	size, _ := request.Body.Read(make([]byte, 1))
	return size == 0
}

func (s *Server) discovery(writer http.ResponseWriter, _ *http.Request) {
	s.answer(writer, http.StatusOK, map[string]any{
		"issuer":                                s.settings.Issuer,
		"jwks_uri":                              s.settings.Issuer + KeysPath,
		"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
	})
}

func (s *Server) keys(writer http.ResponseWriter, _ *http.Request) {
	s.answer(writer, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.settings.Key.private.Public()}})
}

func (s *Server) health(writer http.ResponseWriter, _ *http.Request) {
	s.answer(writer, http.StatusOK, map[string]any{"healthy": true, "machines": s.inventory.Load().Len()})
}

// refuse answers with the reason and what to do about it.
func (s *Server) refuse(writer http.ResponseWriter, request *http.Request, refused *refusal) {
	s.settings.Log.Warn("refused", "status", refused.status, "error", refused.what, "source", request.RemoteAddr)
	s.answer(writer, refused.status, map[string]string{"error": refused.what, "fix": refused.fix})
}

// answer writes JSON that nobody may keep.
func (s *Server) answer(writer http.ResponseWriter, status int, body any) {
	writer.Header().Set("Content-Type", "application/json")
	writer.Header().Set("Cache-Control", "no-store")
	writer.Header().Set("X-Content-Type-Options", "nosniff")
	writer.WriteHeader(status)
	if err := json.NewEncoder(writer).Encode(body); err != nil {
		s.settings.Log.Debug("answering failed", "error", err)
	}
}
