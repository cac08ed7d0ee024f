"""What the SAM templates, the Terraform module and the CDK construct of deploy/ make, each in the same plain terms."""
