package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"text/template"
	"time"
)

const (
	authorityValidity   = 10 * 365 * 24 * time.Hour
	certificateValidity = 365 * 24 * time.Hour
	certificateRenewal  = 90 * 24 * time.Hour
)

// authority signs this server's certificates.
type authority struct {
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// subject is whom a certificate is for, and under which names it serves, if it does.
type subject struct {
	name         string
	organization string
	names        []string
	addresses    []netip.Addr
}

func openAuthority(folder, name string) (*authority, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	one := &authority{folder: folder}
	key, err := openKey(filepath.Join(folder, name+".key"))
	if err != nil {
		return nil, err
	}
	one.key = key
	path := filepath.Join(folder, name+".crt")
	encoded, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		template := &x509.Certificate{
			Subject:               pkix.Name{CommonName: "k3s-" + name},
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
			IsCA:                  true,
			BasicConstraintsValid: true,
		}
		encoded, err = one.sign(template, template, &key.PublicKey, authorityValidity)
		if err == nil {
			err = os.WriteFile(path, encoded, 0o644)
		}
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(encoded)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	one.certificate, err = x509.ParseCertificate(block.Bytes)
	return one, err
}

// openKey reads a key, and makes it when there is none.
func openKey(path string) (*ecdsa.PrivateKey, error) {
	encoded, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newKey(path)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(encoded)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key", path)
	}
	return x509.ParseECPrivateKey(block.Bytes)
}

func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}), 0o600)
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PublicKey, validity time.Duration) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	// Clocks of one machine's containers may differ by little.
	template.NotBefore = time.Now().Add(-time.Minute)
	template.NotAfter = time.Now().Add(validity)
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), err
}

// issue writes FILE.crt and FILE.key.
func (a *authority) issue(file string, whom subject) error {
	name := pkix.Name{CommonName: whom.name}
	if whom.organization != "" {
		name.Organization = []string{whom.organization}
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(whom.names) > 0 {
		usages = append(usages, x509.ExtKeyUsageServerAuth)
	}
	var addresses []net.IP
	for _, address := range whom.addresses {
		addresses = append(addresses, address.AsSlice())
	}
	template := &x509.Certificate{
		Subject: name, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usages, DNSNames: whom.names, IPAddresses: addresses,
	}
	if a.lasts(file, template) {
		return nil
	}
	key, err := newKey(filepath.Join(a.folder, file+".key"))
	if err != nil {
		return err
	}
	encoded, err := a.sign(template, a.certificate, &key.PublicKey, certificateValidity)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(a.folder, file+".crt"), encoded, 0o644)
}

// lasts tells whether what was issued before says the same, and is not about to expire: whoever holds the kubeconfig keeps it then.
func (a *authority) lasts(file string, template *x509.Certificate) bool {
	pair, err := tls.LoadX509KeyPair(filepath.Join(a.folder, file+".crt"), filepath.Join(a.folder, file+".key"))
	if err != nil {
		return false
	}
	issued, err := x509.ParseCertificate(pair.Certificate[0])
	return err == nil && issued.CheckSignatureFrom(a.certificate) == nil && time.Until(issued.NotAfter) > certificateRenewal &&
		issued.Subject.String() == template.Subject.String() && slices.Equal(issued.DNSNames, template.DNSNames) &&
		slices.EqualFunc(issued.IPAddresses, template.IPAddresses, net.IP.Equal)
}

var kubeconfig = template.Must(template.New("kubeconfig").Parse(`apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    server: {{.Server}}
    certificate-authority-data: {{.Authority}}
contexts:
- name: default
  context:
    cluster: default
    user: default
current-context: default
users:
- name: default
  user:
    client-certificate-data: {{.Certificate}}
    client-key-data: {{.Key}}
`))

// writeKubeconfig issues a client certificate and writes the kubeconfig that carries it.
func (a *authority) writeKubeconfig(path string, mode os.FileMode, file string, whom subject) error {
	if err := a.issue(file, whom); err != nil {
		return err
	}
	values := map[string]string{"Server": apiServer}
	for field, source := range map[string]string{"Authority": "server-ca.crt", "Certificate": file + ".crt", "Key": file + ".key"} {
		content, err := os.ReadFile(filepath.Join(a.folder, source))
		if err != nil {
			return err
		}
		values[field] = base64.StdEncoding.EncodeToString(content)
	}
	return writeFile(path, mode, func(file *os.File) error { return kubeconfig.Execute(file, values) })
}

// writeFile makes the file appear whole, with its final mode.
func writeFile(path string, mode os.FileMode, write func(*os.File) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	unfinished, err := os.CreateTemp(filepath.Dir(path), ".k3s-")
	if err != nil {
		return err
	}
	defer os.Remove(unfinished.Name())
	if err := errors.Join(unfinished.Chmod(mode), write(unfinished), unfinished.Close()); err != nil {
		return err
	}
	return os.Rename(unfinished.Name(), path)
}

// writeToken writes the token by which a further node would be known, in k3s's form.
func (a *authority) writeToken(path, secret string) error {
	if secret == "" {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		secret = rand.Text()
	}
	authorityDigest := sha256.Sum256(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}))
	return writeFile(path, 0o600, func(file *os.File) error {
		_, err := fmt.Fprintf(file, "K10%x::server:%s\n", authorityDigest, secret)
		return err
	})
}

// writePublicKey writes what verifies the signatures of a key.
func writePublicKey(private, public string) error {
	key, err := openKey(private)
	if err != nil {
		return err
	}
	encoded, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: encoded}), 0o644)
}
