package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-jose/go-jose/v4"
)

// keyFile is the signing key's name in the keys folder.
const keyFile = "signing-key.pem"

// Key signs the tokens: EC P-256. Its private part stays behind this type.
type Key struct{ private jose.JSONWebKey }

// ID is the key's RFC 7638 thumbprint, the kid of every token.
func (k *Key) ID() string { return k.private.KeyID }

// LoadKey reads the signing key from folder, and makes folder (0700) and key
// (0600) when they are missing. A key that others may read is refused: it must
// be taken for known.
func LoadKey(folder string) (*Key, error) {
	path := filepath.Join(folder, keyFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(folder, path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read the signing key: %s has mode %04o, so others may have read it; fix: remove it and let a new one be made, or chmod 600 when you are sure", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("read the signing key: %s is not a PKCS #8 PEM; fix: remove it and let a new one be made", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, isEC := parsed.(*ecdsa.PrivateKey)
	if err != nil || !isEC || private.Curve != elliptic.P256() {
		return nil, fmt.Errorf("read the signing key: %s is not an EC P-256 key; fix: remove it and let a new one be made", path)
	}
	return newKey(private)
}

// makeKey writes a new key beside its place and moves it there, so that a crash
// leaves no half of one.
func makeKey(folder, path string) (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("make a signing key: %w; fix: give --keys a folder this user may write to", err)
	}
	temporary, err := os.CreateTemp(folder, keyFile+".*") // 0600 by its contract
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w; fix: give --keys a folder this user may write to", err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return newKey(private)
}

func newKey(private *ecdsa.PrivateKey) (*Key, error) {
	key := jose.JSONWebKey{Key: private, Algorithm: string(jose.ES256), Use: "sig"}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("name the signing key: %w", err)
	}
	key.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	return &Key{private: key}, nil
}
