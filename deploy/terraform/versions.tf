terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # From here on a URL with NONE gets both permissions that AWS asks for, without resources of ours.
      version = ">= 6.29"
    }
  }
}
