// The test cluster's dynamic provisioner: a claim of StorageClass "standard"
// becomes a `local` volume on the node that the scheduler chose. Not hostPath:
// kubelet would ignore a pod's fsGroup there, and a chart that forgets it would
// work here and nowhere else.
//
// It is one process beside the control plane, not a pod per node: every node's
// disk is a folder of this machine, so it makes a volume's folder and removes
// it with its data by itself, even while that node has no power.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const (
	// provisionerName is what the StorageClass names.
	provisionerName = "rocketcluster.test/node-disk"
	// volumesOnNode is where a node sees its volumes.
	volumesOnNode = "/var/lib/volumes"
	// nodeAnnotation says whose disk holds a volume.
	nodeAnnotation = provisionerName + "-node"
)

var errNoNode = errors.New("the claim has no selected node: its StorageClass must say WaitForFirstConsumer")

// nodeDisks knows where the machine keeps each node's volumes: pattern with
// its one %s replaced by the node's name.
type nodeDisks struct{ pattern string }

func (d nodeDisks) Provision(_ context.Context, o controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	if o.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, errNoNode
	}
	volumes, err := d.open(o.SelectedNodeName)
	if err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	defer volumes.Close()
	folder := strings.Join([]string{o.PVC.Namespace, o.PVC.Name, o.PVName}, "_")
	// Root's alone, as a fresh disk's file system is.
	if err := volumes.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, controller.ProvisioningFinished, err
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        o.PVName,
			Annotations: map[string]string{nodeAnnotation: o.SelectedNodeName},
		},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: o.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				Local: &v1.LocalVolumeSource{Path: filepath.Join(volumesOnNode, folder)},
			},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{
					Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{o.SelectedNodeName},
				}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

// open gives the folder of a node's volumes. os.Root keeps what is made and
// removed inside it, whatever an object's path was edited to.
func (d nodeDisks) open(node string) (*os.Root, error) {
	if node != filepath.Base(node) {
		return nil, fmt.Errorf("%q is no node's name", node)
	}
	volumes, err := os.OpenRoot(fmt.Sprintf(d.pattern, node))
	if err != nil {
		return nil, fmt.Errorf("open the disk of node %s: %w", node, err)
	}
	return volumes, nil
}

// Delete removes the data.
func (d nodeDisks) Delete(_ context.Context, pv *v1.PersistentVolume) error {
	node := pv.Annotations[nodeAnnotation]
	if pv.Spec.Local == nil || node == "" {
		return fmt.Errorf("volume %s is not one of this provisioner's", pv.Name)
	}
	volumes, err := d.open(node)
	if err != nil {
		return err
	}
	defer volumes.Close()
	return volumes.RemoveAll(filepath.Base(pv.Spec.Local.Path))
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of the kubeconfig")
	pattern := flag.String("volumes", "", "where this machine keeps the volumes of node %s")
	flag.Parse()
	if strings.Count(*pattern, "%s") != 1 {
		klog.Fatal("--volumes needs exactly one %s, for the node's name")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		klog.Fatal(err)
	}
	ctx, client := context.Background(), kubernetes.NewForConfigOrDie(config)
	go grow(ctx, client)
	controller.NewProvisionController(ctx, client, provisionerName,
		nodeDisks{*pattern}, controller.LeaderElection(false)).Run(ctx)
}
