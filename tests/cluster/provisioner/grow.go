package main

import (
	"context"
	"encoding/json"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// grow says yes to every claim of ours that asks for more, as a CSI driver's
// resizer would. A folder has no size, so only the two objects change: enough
// to test who asks and who waits, not that a file system really grew.
func grow(ctx context.Context, client kubernetes.Interface) {
	for ; ctx.Err() == nil; time.Sleep(time.Second) {
		claims, err := client.CoreV1().PersistentVolumeClaims("").List(ctx, metav1.ListOptions{})
		if err != nil {
			klog.ErrorS(err, "list claims")
			continue
		}
		for i := range claims.Items {
			if err := growOne(ctx, client, &claims.Items[i]); err != nil {
				klog.ErrorS(err, "grow", "claim", klog.KObj(&claims.Items[i]))
			}
		}
	}
}

func growOne(ctx context.Context, client kubernetes.Interface, claim *v1.PersistentVolumeClaim) error {
	wanted, actual := claim.Spec.Resources.Requests[v1.ResourceStorage], claim.Status.Capacity[v1.ResourceStorage]
	if claim.Status.Phase != v1.ClaimBound || wanted.Cmp(actual) <= 0 {
		return nil
	}
	volume, err := client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	if err != nil || volume.Annotations[nodeAnnotation] == "" {
		return err
	}
	capacity := map[string]any{"capacity": v1.ResourceList{v1.ResourceStorage: wanted}}
	patch, err := json.Marshal(map[string]any{"spec": capacity})
	if err != nil {
		return err
	}
	if _, err := client.CoreV1().PersistentVolumes().Patch(ctx, volume.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return err
	}
	// The conditions are those of a resize under way, which ends here.
	patch, err = json.Marshal(map[string]any{"status": map[string]any{"capacity": capacity["capacity"], "conditions": nil}})
	if err != nil {
		return err
	}
	_, err = client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(ctx, claim.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}
