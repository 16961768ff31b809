package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/template"
	"time"

	"k8slab.capi/bundle/k3s/podnet"
)

// Where k3s keeps what others read.
const (
	dataFolder      = "/var/lib/rancher/k3s"
	adminKubeconfig = "/etc/rancher/k3s/k3s.yaml"
	registries      = "/etc/rancher/k3s/registries.yaml"
	tokenFile       = dataFolder + "/server/token"
	imagesFolder    = dataFolder + "/agent/images"
	importedImages  = dataFolder + "/agent/imported-images"
)

const (
	tlsFolder           = dataFolder + "/server/tls"
	credFolder          = dataFolder + "/server/cred"
	agentFolder         = dataFolder + "/agent/etc"
	cniFolder           = agentFolder + "/cni/net.d"
	containerdSocket    = "/run/k3s/containerd/containerd.sock"
	containerdNamespace = "k8s.io"
	apiServer           = "https://127.0.0.1:6443"
	etcd                = "https://127.0.0.1:2379"
	etcdPeer            = "https://127.0.0.1:2380"

	pauseImage   = "registry.k8s.io/pause:3.10.1"
	corednsImage = "registry.k8s.io/coredns/coredns:v1.13.1"
)

// How long the server may take to its first good answer.
const startTimeout = 3 * time.Minute

var (
	//go:embed manifests
	manifests embed.FS
	//go:embed containerd.toml kubelet.yaml
	configurations embed.FS
)

type server struct {
	*settings
	supervisor
	node string
	ca   *authority
}

func serve(wanted *settings) error {
	// Components end with the thread that started them.
	runtime.LockOSThread()
	signals, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	host, err := os.Hostname()
	if err != nil {
		return err
	}
	programs, err := unpack()
	if err != nil {
		return err
	}
	// Components would tell systemd of their own readiness; it is this process that counts.
	systemd := os.Getenv("NOTIFY_SOCKET")
	// containerd finds its shim, and kubelet and the plugins find theirs.
	if err := errors.Join(os.Unsetenv("NOTIFY_SOCKET"), os.Setenv("PATH", string(programs)+":"+os.Getenv("PATH"))); err != nil {
		return err
	}
	running, fail := context.WithCancelCause(signals)
	s := &server{settings: wanted, supervisor: supervisor{programs: programs, fail: fail}, node: strings.ToLower(host)}
	defer s.stop()
	starting, cancel := context.WithTimeoutCause(running, startTimeout, errors.New("the start took too long"))
	defer cancel()
	if err := s.bringUp(starting); err != nil {
		return err
	}
	if err := notifyReady(systemd); err != nil {
		return err
	}
	<-running.Done()
	if signals.Err() != nil {
		return nil
	}
	return context.Cause(running)
}

func (s *server) bringUp(ctx context.Context) error {
	if _, err := os.Stat(registries); err == nil {
		fmt.Fprintf(os.Stderr, "k3s: the stand-in does not read %s: images come from %s alone\n", registries, imagesFolder)
	}
	if err := mountControllers(); err != nil {
		return err
	}
	forward()
	if err := s.writeCredentials(); err != nil {
		return err
	}
	if err := s.startContainerd(); err != nil {
		return err
	}
	if err := s.startControlPlane(ctx); err != nil {
		return err
	}
	if err := s.importImages(ctx); err != nil {
		return err
	}
	return s.startNode(ctx)
}

func (s *server) writeCredentials() error {
	ca, err := openAuthority(tlsFolder, "server-ca")
	if err != nil {
		return err
	}
	s.ca = ca
	frontProxy, err := openAuthority(tlsFolder, "request-header-ca")
	if err != nil {
		return err
	}
	if err := writePublicKey(filepath.Join(tlsFolder, "service.key"), filepath.Join(tlsFolder, "service.pub")); err != nil {
		return err
	}

	loopback := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	served := append(loopback, s.nodeIPs...)
	for _, cidr := range s.serviceCIDRs {
		served = append(served, cidr.Masked().Addr().Next())
	}
	names := []string{
		s.node, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}
	for _, san := range s.tlsSANs {
		if address, err := netip.ParseAddr(san); err == nil {
			served = append(served, address)
		} else {
			names = append(names, san)
		}
	}
	return errors.Join(
		ca.issue("serving-kube-apiserver", subject{name: "kube-apiserver", names: names, addresses: served}),
		ca.issue("serving-kubelet", subject{name: s.node, names: []string{s.node}, addresses: s.nodeIPs}),
		ca.issue("etcd", subject{name: "etcd", names: []string{"localhost"}, addresses: loopback}),
		ca.issue("client-kube-apiserver", subject{name: "system:apiserver", organization: "system:masters"}),
		frontProxy.issue("client-auth-proxy", subject{name: "system:auth-proxy"}),
		ca.writeKubeconfig(cred("controller"), 0o600, "client-controller", subject{name: "system:kube-controller-manager"}),
		ca.writeKubeconfig(cred("scheduler"), 0o600, "client-scheduler", subject{name: "system:kube-scheduler"}),
		ca.writeKubeconfig(cred("kube-proxy"), 0o600, "client-kube-proxy", subject{name: "system:kube-proxy"}),
		ca.writeKubeconfig(cred("flannel"), 0o600, "client-flannel", subject{name: "system:flannel"}),
		ca.writeKubeconfig(cred("kubelet"), 0o600, "client-kubelet", subject{name: "system:node:" + s.node, organization: "system:nodes"}),
		ca.writeKubeconfig(cred("admin"), 0o600, "client-admin", subject{name: "system:admin", organization: "system:masters"}),
		ca.writeToken(tokenFile, s.token),
	)
}

func cred(name string) string { return filepath.Join(credFolder, name+".kubeconfig") }

func (s *server) startContainerd() error {
	config := filepath.Join(agentFolder, "containerd/config.toml")
	err := s.configure("containerd.toml", config, map[string]any{
		"Data": dataFolder, "Socket": containerdSocket, "Pause": pauseImage, "CNI": cniFolder, "Programs": string(s.programs),
	})
	if err != nil {
		return err
	}
	return s.start("containerd", nil, "--config", config)
}

func (s *server) startControlPlane(ctx context.Context) error {
	in := func(file string) string { return filepath.Join(tlsFolder, file) }
	services := joined(s.serviceCIDRs)
	if err := s.start("etcd", nil,
		"--name="+s.node,
		"--data-dir="+filepath.Join(dataFolder, "server/db/etcd"),
		"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		"--listen-peer-urls="+etcdPeer, "--initial-advertise-peer-urls="+etcdPeer, "--initial-cluster="+s.node+"="+etcdPeer,
		"--peer-client-cert-auth", "--peer-trusted-ca-file="+in("server-ca.crt"),
		"--peer-cert-file="+in("etcd.crt"), "--peer-key-file="+in("etcd.key"),
		"--client-cert-auth", "--trusted-ca-file="+in("server-ca.crt"), "--cert-file="+in("etcd.crt"), "--key-file="+in("etcd.key"),
		"--log-level=warn",
		// A lab that loses its machine is built anew.
		"--unsafe-no-fsync",
	); err != nil {
		return err
	}
	if err := until(ctx, "etcd does not answer", func() error { return dial("tcp", strings.TrimPrefix(etcd, "https://")) }); err != nil {
		return err
	}
	if err := s.start("kube-apiserver", nil,
		"--secure-port=6443",
		"--advertise-address="+s.nodeIPs[0].String(),
		"--allow-privileged",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range="+services,
		"--etcd-servers="+etcd, "--etcd-cafile="+in("server-ca.crt"),
		"--etcd-certfile="+in("client-kube-apiserver.crt"), "--etcd-keyfile="+in("client-kube-apiserver.key"),
		"--tls-cert-file="+in("serving-kube-apiserver.crt"), "--tls-private-key-file="+in("serving-kube-apiserver.key"),
		"--client-ca-file="+in("server-ca.crt"),
		"--kubelet-certificate-authority="+in("server-ca.crt"),
		"--kubelet-client-certificate="+in("client-kube-apiserver.crt"), "--kubelet-client-key="+in("client-kube-apiserver.key"),
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+in("service.pub"), "--service-account-signing-key-file="+in("service.key"),
		"--requestheader-client-ca-file="+in("request-header-ca.crt"),
		"--requestheader-allowed-names=system:auth-proxy",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+in("client-auth-proxy.crt"), "--proxy-client-key-file="+in("client-auth-proxy.key"),
		"--anonymous-auth=false",
	); err != nil {
		return err
	}
	if err := until(ctx, "the API server is not ready", s.apiReady); err != nil {
		return err
	}
	if err := s.start("kube-controller-manager", nil,
		"--kubeconfig="+cred("controller"),
		"--authentication-kubeconfig="+cred("controller"), "--authorization-kubeconfig="+cred("controller"),
		"--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials",
		"--allocate-node-cidrs", "--cluster-cidr="+joined(s.clusterCIDRs), "--service-cluster-ip-range="+services,
		"--cluster-signing-cert-file="+in("server-ca.crt"), "--cluster-signing-key-file="+in("server-ca.key"),
		"--root-ca-file="+in("server-ca.crt"), "--service-account-private-key-file="+in("service.key"),
	); err != nil {
		return err
	}
	if err := s.start("kube-scheduler", nil,
		"--kubeconfig="+cred("scheduler"),
		"--authentication-kubeconfig="+cred("scheduler"), "--authorization-kubeconfig="+cred("scheduler"),
		"--bind-address=127.0.0.1", "--leader-elect=false",
	); err != nil {
		return err
	}
	if err := s.apply(ctx); err != nil {
		return err
	}
	return s.ca.writeKubeconfig(adminKubeconfig, s.kubeconfigMode, "client-admin", subject{name: "system:admin", organization: "system:masters"})
}

func (s *server) apiReady() error {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(tlsFolder, "client-admin.crt"), filepath.Join(tlsFolder, "client-admin.key"))
	if err != nil {
		return err
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(s.ca.certificate)
	client := http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{certificate}}},
	}
	defer client.CloseIdleConnections()
	answer, err := client.Get(apiServer + "/readyz")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// apply brings the components that run in the cluster.
func (s *server) apply(ctx context.Context) error {
	names := []string{"flannel", "coredns"}
	var objects bytes.Buffer
	for _, name := range names {
		if slices.Contains(s.disabled, name) {
			continue
		}
		parsed, err := template.ParseFS(manifests, "manifests/"+name+".yaml")
		if err != nil {
			return err
		}
		if err := parsed.Execute(&objects, map[string]any{"CoreDNSImage": corednsImage, "ClusterDNS": s.clusterDNS}); err != nil {
			return err
		}
		objects.WriteString("---\n")
	}
	_, err := s.output(ctx, "kubectl", objects.Bytes(),
		"apply", "--kubeconfig="+cred("admin"), "--server-side", "--force-conflicts", "--field-manager=k3s", "--filename=-")
	return err
}

// importImages fills containerd's store from the archives that were put beside k3s's data. One that has not changed since
// is not read again.
func (s *server) importImages(ctx context.Context) error {
	if err := until(ctx, "containerd does not answer", func() error { return dial("unix", containerdSocket) }); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(imagesFolder, "*"))
	if err != nil {
		return err
	}
	imported, err := os.ReadFile(importedImages)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var present strings.Builder
	for _, archive := range archives {
		if filepath.Ext(archive) != ".tar" {
			return fmt.Errorf("%s: the stand-in for k3s reads uncompressed archives alone", archive)
		}
		info, err := os.Stat(archive)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %d %s\n", archive, info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))
		if !strings.Contains(string(imported), line) {
			if _, err := s.output(ctx, "ctr", nil, "--address", containerdSocket, "--namespace", containerdNamespace,
				"images", "import", "--local", "--snapshotter", "overlayfs", archive); err != nil {
				return err
			}
		}
		present.WriteString(line)
	}
	return os.WriteFile(importedImages, []byte(present.String()), 0o644)
}

func (s *server) startNode(ctx context.Context) error {
	config := filepath.Join(agentFolder, "kubelet.yaml")
	if err := s.configure("kubelet.yaml", config, map[string]any{
		"TLS": tlsFolder, "ClusterDNS": s.clusterDNS, "Socket": containerdSocket, "Resolv": resolvConf(),
	}); err != nil {
		return err
	}
	arguments := append([]string{
		"--config=" + config, "--kubeconfig=" + cred("kubelet"), "--node-ip=" + joined(s.nodeIPs), "--hostname-override=" + s.node,
		"--node-labels=node.kubernetes.io/instance-type=k3s",
	}, s.kubeletArgs...)
	if err := s.start("kubelet", nil, arguments...); err != nil {
		return err
	}
	if err := s.start("kube-proxy", nil,
		"--kubeconfig="+cred("kube-proxy"), "--hostname-override="+s.node, "--cluster-cidr="+joined(s.clusterCIDRs),
		"--proxy-mode=nftables",
		// The table of connections is the host's; a container may not size it.
		"--conntrack-max-per-core=0", "--conntrack-min=0",
	); err != nil {
		return err
	}
	return s.startNetwork(ctx)
}

func (s *server) startNetwork(ctx context.Context) error {
	for _, condition := range []string{"create", "jsonpath={.spec.podCIDR}"} {
		if _, err := s.output(ctx, "kubectl", nil,
			"wait", "--kubeconfig="+cred("admin"), "--for="+condition, "--timeout="+startTimeout.String(), "node/"+s.node); err != nil {
			return err
		}
	}
	config, err := flannelConfig(s.clusterCIDRs)
	if err != nil {
		return err
	}
	path := filepath.Join(agentFolder, "flannel/net-conf.json")
	if err := writeFile(path, 0o644, func(file *os.File) error {
		_, err := file.Write(config)
		return err
	}); err != nil {
		return err
	}
	// What an earlier start left may be of another network.
	if err := os.Remove(podnet.Subnets); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	link, err := linkOf(s.nodeIPs[0])
	if err != nil {
		return err
	}
	arguments := []string{
		"--kube-subnet-mgr", "--kubeconfig-file=" + cred("flannel"), "--net-config-path=" + path, "--ip-masq", "--iface=" + link,
	}
	for _, address := range s.nodeIPs {
		if address.Is4() {
			arguments = append(arguments, "--public-ip="+address.String())
		} else {
			arguments = append(arguments, "--public-ipv6="+address.String())
		}
	}
	if err := s.start("flanneld", []string{"NODE_NAME=" + s.node}, arguments...); err != nil {
		return err
	}
	var flannel []byte
	if err := until(ctx, "flannel has no subnet", func() error {
		flannel, err = os.ReadFile(podnet.Subnets)
		return err
	}); err != nil {
		return err
	}
	chain, err := podnet.Chain(string(flannel))
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(cniFolder, "10-flannel.conflist"), 0o644, func(file *os.File) error {
		_, err := file.Write(chain)
		return err
	})
}

func dial(network, address string) error {
	connection, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	return connection.Close()
}

// configure writes one component's configuration file.
func (s *server) configure(name, path string, values map[string]any) error {
	parsed, err := template.ParseFS(configurations, name)
	if err != nil {
		return err
	}
	return writeFile(path, 0o644, func(file *os.File) error { return parsed.Execute(file, values) })
}

// resolvConf is the list of name servers that pods of the node's network can reach: not systemd-resolved's own address.
func resolvConf() string {
	const resolved = "/run/systemd/resolve/resolv.conf"
	if _, err := os.Stat(resolved); err == nil {
		return resolved
	}
	return "/etc/resolv.conf"
}
